/*
 * Erase ended tasks with their attempts; return how many tasks.
 */
create or replace function pgprog_engine._erase_tasks(task_ids bigint[])
returns bigint
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_count bigint;
begin
  delete from pgprog_data.attempts as a
  where a.task_id = any (_erase_tasks.task_ids);
  delete from pgprog_data.tasks as t
  where t.task_id = any (_erase_tasks.task_ids);
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function pgprog_engine._erase_tasks(bigint[]) is 'Erase ended tasks with their attempts; return how many tasks';
