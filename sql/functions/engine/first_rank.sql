/*
 * Return the lowest rank of what waits before a place in the order of claims, null if nothing does, and the
 * microseconds that the look took.
 *
 * For a worker whose claims begin there (claim, since): passes by all rows that have ended before it and are kept by
 * an old snapshot, as a claim of everything would, but holds nothing up.  What was set aside for newer workers is
 * found by every claim, and left out.
 *
 * Locks: none.  Indexes: queue_ready, timers_due.
 */
create or replace function pgprog_engine.first_rank(
  namespaces text[], since timestamptz, since_task bigint, out rank timestamptz, out took_us bigint)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
  select min(d.rank), (extract(epoch from pgprog_engine._clock() - pgprog_engine._now()) * 1000000)::bigint
  from unnest(first_rank.namespaces) as s(namespace)
  join pgprog_data.namespaces as n on n.namespace = s.namespace and n.paused_at is null
  cross join lateral (
    (select q.rank from pgprog_data.queue as q
     where q.namespace = s.namespace and q.status = 'w' and q.needs_version is null
       and (q.rank, q.task_id) < (first_rank.since, first_rank.since_task)
     order by q.rank, q.task_id limit 1)
    union all
    (select t.due_at from pgprog_data.timers as t
     where t.namespace = s.namespace and t.status = 'w' and t.needs_version is null
       and t.due_at < first_rank.since and t.due_at <= pgprog_engine._now()
     order by t.due_at limit 1)
  ) as d
$$;

comment on function pgprog_engine.first_rank(text[], timestamptz, bigint)
  is 'Return the lowest rank of what waits before a place in the order of claims';
