/*
 * Tell of each namespace what an operator must know at once, in a time that does not grow with its queue.
 *
 * due_since: since when the oldest task or timer that could run has been due, of the first hundred by rank;
 * aside_since and aside_version: the same of what only workers that read this state version may take.
 * queued was measured at measured_at by a worker, null where none ever did.  broken: processes that are in
 * error since less than an hour, at most 10 000.  Reads only, by indexes.
 */
create or replace function pgprog.inspect_namespaces()
returns table (
  namespace text, paused_at timestamptz, pause_reason text, concurrency integer, max_queue bigint, on_full text,
  queued bigint, measured_at timestamptz, running bigint, due_since timestamptz, due_process text,
  aside_since timestamptz, aside_version integer, workers bigint, aside_workers bigint, broken bigint, caches boolean)
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
      n.namespace, n.paused_at, n.pause_reason, n.concurrency, n.max_queue, n.on_full, s.tasks,
      -- That of a size says when it changed.
      case when s.tasks is not null then (select m.measured_at from pgprog_data.measurements as m where m.name = 'queues') end,
      coalesce(r.running, 0), d.due_at, d.process_id, a.due_at, a.needs_version,
      (select count(*) from pgprog_data.workers as w
       where n.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()),
      (select count(*) from pgprog_data.workers as w
       where n.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()
         and a.needs_version <= pgprog_engine._version_read(n.namespace, w.namespaces, w.state_versions)),
      (select count(*) from (
        select from pgprog_data.ended_processes as e
        where e.namespace = n.namespace and e.status = 'error' and e.at > v_now - interval '1 h' limit 10000) as e),
      -- No cast: nobody has checked what it is, and one namespace must not hide the others.
      coalesce(n.settings #> '{cache,enabled}' = 'true', false)
    from pgprog_data.namespaces as n
    left join pgprog_data.queue_sizes as s on s.namespace = n.namespace
    left join (
      select q.namespace, count(*) as running from pgprog_data.queue as q where q.status = 'r' group by q.namespace
    ) as r on r.namespace = n.namespace
    left join lateral (
      select x.due_at, x.process_id
      from (
        (select q.due_at, q.process_id from pgprog_data.queue as q
         where q.namespace = n.namespace and q.status = 'w' and q.needs_version is null
         order by q.rank, q.task_id limit 100)
        union all
        (select q.due_at, q.process_id from pgprog_data.queue as q
         where q.namespace = n.namespace and q.status in ('f', 'h') and q.due_at <= v_now order by q.due_at limit 1)
        union all
        (select greatest(t.due_at, t.created_at) as due_at, t.process_id from pgprog_data.timers as t
         where t.namespace = n.namespace and t.status = 'w' and t.needs_version is null and t.due_at <= v_now
         order by t.due_at limit 1)
      ) as x
      order by x.due_at limit 1
    ) as d on true
    left join lateral (
      select y.due_at, y.needs_version
      from (
        (select q.due_at, q.needs_version from pgprog_data.queue as q
         where q.namespace = n.namespace and q.status = 'w' and q.needs_version is not null
         order by q.needs_version desc limit 1)
        union all
        (select greatest(t.due_at, t.created_at) as due_at, t.needs_version from pgprog_data.timers as t
         where t.namespace = n.namespace and t.status = 'w' and t.needs_version is not null and t.due_at <= v_now
         order by t.needs_version desc limit 1)
      ) as y
      order by y.needs_version desc limit 1
    ) as a on true;
end
$$;

comment on function pgprog.inspect_namespaces() is 'What an operator must know of each namespace at once; for pgprog doctor and top';
