/*
 * Raise UP011 unless the task is known: open, a timer, or ended within task_retention.
 */
create or replace function pgprog_engine._require_task(task_id bigint)
returns void
language plpgsql
as $$
#variable_conflict use_column
begin
  if not exists (select 1 from pgprog_data.tasks as t where t.task_id = _require_task.task_id)
    and not exists (select 1 from pgprog_data.queue as q where q.task_id = _require_task.task_id)
    and not exists (select 1 from pgprog_data.timers as t where t.task_id = _require_task.task_id)
  then
    raise exception 'no task %', coalesce(_require_task.task_id::text, 'null')
      using errcode = 'UP011', hint = 'ended tasks are forgotten after task_retention';
  end if;
end
$$;

comment on function pgprog_engine._require_task(bigint) is 'Raise UP011 unless the task is known';
