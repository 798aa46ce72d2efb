/*
 * Remove processes at once for every reader; their events go in the background.
 *
 * The caller holds the process rows.  Open tasks and timers end as cancelled with the cause; a
 * running task ends too, so that its worker's completion is lost and its waiter is told.
 */
create or replace function pgprog_engine._remove_processes(incarnations bigint[], cause text, at timestamptz)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  delete from pgprog_data.processes as p
  using unnest(_remove_processes.incarnations) as x(incarnation)
  where p.incarnation = x.incarnation;
  delete from pgprog_data.ended_processes as e
  using unnest(_remove_processes.incarnations) as x(incarnation)
  where e.incarnation = x.incarnation;

  insert into pgprog_data.removals (incarnation, removed_at)
  select x.incarnation, _remove_processes.at
  from unnest(_remove_processes.incarnations) as x(incarnation)
  on conflict do nothing;

  perform pgprog_engine._end_tasks(_remove_processes.incarnations, _remove_processes.cause, _remove_processes.at);
  perform pgprog_engine._cancel_timers(
    _remove_processes.incarnations, array_fill(null::text, array[cardinality(_remove_processes.incarnations)]),
    _remove_processes.cause, _remove_processes.at);

  with gone as (
    delete from pgprog_data.queue as q
    using unnest(_remove_processes.incarnations) as x(incarnation)
    where q.incarnation = x.incarnation
      and q.status = 'r'
    returning q.*
  )
  insert into pgprog_data.tasks (
    task_id, namespace, process_id, incarnation, type, name, status, priority, attempt, crashes,
    due_at, created_at, started_at, ended_at, worker_id, key, args, context, error)
  select
    g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 'cancelled', g.priority, g.attempt, g.crashes,
    g.due_at, g.created_at, g.started_at, _remove_processes.at, g.worker_id, g.key, g.args, g.context,
    jsonb_build_object('cause', _remove_processes.cause)
  from gone as g;
end
$$;

comment on function pgprog_engine._remove_processes(bigint[], text, timestamptz)
  is 'Remove processes at once for every reader; their events go in the background';
