/*
 * Let due timers of type remove do it: each ends as a finished task, its process is removed.
 *
 * The caller holds the process rows and has seen, in a later statement, that none of them runs.
 */
create or replace function pgprog_engine._fire_removals(incarnations bigint[], names text[], at timestamptz)
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
  with fired as (
    delete from pgprog_data.timers as t
    using unnest(_fire_removals.incarnations, _fire_removals.names) as x(incarnation, name)
    where t.incarnation = any (array[x.incarnation])
      and t.name = x.name
    returning t.*
  )
  insert into pgprog_data.tasks (
    task_id, namespace, process_id, incarnation, type, name, status, attempt,
    due_at, created_at, started_at, ended_at, context)
  select
    f.task_id, f.namespace, f.process_id, f.incarnation, f.type, f.name, 'finished', f.attempt + 1,
    f.due_at, f.created_at, _fire_removals.at, _fire_removals.at, f.context
  from fired as f;
  perform pgprog_engine._remove_processes(_fire_removals.incarnations, 'removed', _fire_removals.at);
end
$$;

comment on function pgprog_engine._fire_removals(bigint[], text[], timestamptz)
  is 'Let due timers of type remove do it: each ends as a finished task, its process is removed';
