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
  with gone as (
    delete from pgprog_data.processes as p
    where p.incarnation = any (_remove_processes.incarnations)
    returning p.incarnation, p.namespace
  )
  insert into pgprog_data.removals (incarnation, namespace, removed_at)
  select g.incarnation, g.namespace, _remove_processes.at
  from gone as g
  on conflict do nothing;
  delete from pgprog_data.ended_processes as e where e.incarnation = any (_remove_processes.incarnations);

  perform pgprog_engine._end_tasks(_remove_processes.incarnations, _remove_processes.cause, _remove_processes.at);
  perform pgprog_engine._cancel_timers(
    _remove_processes.incarnations, array_fill(null::text, array[cardinality(_remove_processes.incarnations)]),
    _remove_processes.cause, _remove_processes.at);

  perform pgprog_engine._cancel_queued(array_agg(r.task_id), _remove_processes.cause, _remove_processes.at)
  from pgprog_data.queue as r
  where r.incarnation = any (_remove_processes.incarnations)
    and r.status = 'r';
end
$$;

comment on function pgprog_engine._remove_processes(bigint[], text, timestamptz)
  is 'Remove processes at once for every reader; their events go in the background';
