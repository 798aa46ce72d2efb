/*
 * Give back the suspended timers of processes that were repaired.
 *
 * Of those in rerun, whose repair says nothing of timers, the timer that broke the process is due
 * again, as a new task.  The caller holds the process rows; what broke them is still kept.
 */
create or replace function pgprog_engine._restore_timers(incarnations bigint[], rerun bigint[], at timestamptz)
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
  update pgprog_data.timers as t
  set status = 'w'
  where t.incarnation = any (_restore_timers.incarnations)
    and t.status = 's';
  insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, due_at, created_at, context)
  select
    p.incarnation, e.name, nextval('pgprog_data.task_ids'), p.namespace, p.process_id, 'timeout',
    _restore_timers.at, _restore_timers.at, e.context
  from pgprog_data.processes as p
  join pgprog_data.ended_processes as e on e.incarnation = any (array[p.incarnation]) and e.type = 'timeout'
  where p.incarnation = any (_restore_timers.rerun)
  on conflict (incarnation, name) do nothing;
end
$$;

comment on function pgprog_engine._restore_timers(bigint[], bigint[], timestamptz)
  is 'Give back the suspended timers of processes that were repaired';
