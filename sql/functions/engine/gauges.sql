/*
 * Count what metrics show of each namespace, for less than pgprog.stats: open tasks, not timers and not the finished.
 *
 * oldest_due_age is how many seconds the oldest task or timer that could run has been due, 0 when none is.  Reads
 * the whole queue, of the timers the first due one of each namespace, and an index over the processes in error.
 * Callers keep the answer for some seconds, longer where it took long.
 * Indexes: timers_due, timers_newer, ended_processes_by_time.
 */
create or replace function pgprog_engine.gauges()
returns table (
  namespace text, waiting bigint, blocked bigint, running bigint, oldest_due_age double precision, errors bigint,
  workers bigint, is_paused boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
begin
  return query
    select
      n.namespace, coalesce(q.waiting, 0), coalesce(q.blocked, 0), coalesce(q.running, 0),
      coalesce(extract(epoch from v_now - least(q.oldest, t.oldest, a.oldest))::double precision, 0),
      (select count(*) from pgprog_data.ended_processes as e where e.namespace = n.namespace and e.status = 'error'),
      (select count(*) from pgprog_data.workers as w
       where n.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()),
      n.paused_at is not null
    from pgprog_data.namespaces as n
    left join (
      select
        q.namespace,
        count(*) filter (where q.status in ('w', 'f', 'h')) as waiting,
        count(*) filter (where q.status = 'b') as blocked,
        count(*) filter (where q.status = 'r') as running,
        min(q.due_at) filter (where q.status in ('w', 'f', 'h') and q.due_at <= v_now) as oldest
      from pgprog_data.queue as q
      group by q.namespace
    ) as q on q.namespace = n.namespace
    left join lateral (
      select greatest(t.due_at, t.created_at) as oldest from pgprog_data.timers as t
      where t.namespace = n.namespace and t.status = 'w' and t.needs_version is null and t.due_at <= v_now
      order by t.due_at limit 1
    ) as t on true
    left join lateral (
      select min(greatest(t.due_at, t.created_at)) as oldest from pgprog_data.timers as t
      where t.namespace = n.namespace and t.status = 'w' and t.needs_version is not null and t.due_at <= v_now
    ) as a on true
    order by n.namespace;
end
$$;

comment on function pgprog_engine.gauges()
  is 'What metrics show of each namespace: open tasks by status, their age, processes in error, workers';
