/*
 * Count what each namespace holds: tasks by status, timers, processes in error, workers.
 *
 * waiting includes what waits for its time (later) and for its retry (retrying); timers are those
 * pending, suspended ones of processes in error apart.  oldest_due_age is how long the oldest task or
 * timer that could run has been due, null when nothing is.  Reads the whole queue and all timers: for
 * eyes and metrics, not for a loop.
 */
create or replace function pgprog.stats()
returns table (
  namespace text, waiting bigint, blocked bigint, running bigint, timers bigint, oldest_due_age interval, errors bigint,
  later bigint, retrying bigint, suspended bigint, finished bigint, workers bigint, concurrency integer, max_queue bigint,
  is_paused boolean)
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
      n.namespace, coalesce(q.waiting, 0), coalesce(q.blocked, 0), coalesce(q.running, 0), coalesce(t.pending, 0),
      v_now - least(q.oldest, t.oldest), coalesce(e.errors, 0), coalesce(q.later, 0), coalesce(q.retrying, 0),
      coalesce(t.suspended, 0), coalesce(e.finished, 0),
      (select count(*) from pgprog_data.workers as w
       where n.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()),
      n.concurrency, n.max_queue, n.paused_at is not null
    from pgprog_data.namespaces as n
    left join (
      select
        q.namespace,
        count(*) filter (where q.status in ('w', 'f', 'h')) as waiting,
        count(*) filter (where q.status = 'b') as blocked,
        count(*) filter (where q.status = 'r') as running,
        count(*) filter (where q.status = 'f') as later,
        count(*) filter (where q.status = 'h') as retrying,
        min(q.due_at) filter (where q.status in ('w', 'f', 'h') and q.due_at <= v_now) as oldest
      from pgprog_data.queue as q
      group by q.namespace
    ) as q on q.namespace = n.namespace
    left join (
      select
        t.namespace,
        count(*) filter (where t.status <> 's') as pending,
        count(*) filter (where t.status = 's') as suspended,
        min(greatest(t.due_at, t.created_at)) filter (where t.status = 'w' and t.due_at <= v_now) as oldest
      from pgprog_data.timers as t
      group by t.namespace
    ) as t on t.namespace = n.namespace
    left join (
      select
        e.namespace,
        count(*) filter (where e.status = 'error') as errors,
        count(*) filter (where e.status = 'finished') as finished
      from pgprog_data.ended_processes as e
      group by e.namespace
    ) as e on e.namespace = n.namespace
    order by n.namespace;
end
$$;

comment on function pgprog.stats() is 'What each namespace holds: tasks by status, timers, processes in error, workers';
