/*
 * Say what a claim does in a process of which nothing runs, by its first task and its first due timer.
 *
 * 'start' the task, 'start timer', 'remove' the process by its timer, 'break' or 'break timer': it crashed its
 * workers too often, 'refuse': a repair of a process that is not in error; null: nothing yet.
 * A timer goes before a task only when it is overdue past patience and the task came after it was due.
 * A scalar expression, which the planner puts in place of the call.
 */
create or replace function pgprog_engine._way_of(
  status text, task_id bigint, task_type text, task_status "char", task_created_at timestamptz, task_crashes integer,
  timer_type text, timer_due_at timestamptz, timer_crashes integer, timer_patience interval, max_crashes integer, at timestamptz)
returns text
language sql stable
as $$
  select case
    when timer_due_at is not null and status = 'running' and (
      task_id is null or (timer_due_at <= at - timer_patience and timer_due_at < task_created_at))
    then case when timer_type = 'remove' then 'remove' when timer_crashes >= max_crashes then 'break timer' else 'start timer' end
    when task_id is null then null
    when task_status = 'h' then null
    when task_type = 'repair' and status <> 'error' then 'refuse'
    when status = 'init' and task_type <> 'init' then null
    when task_crashes >= max_crashes then 'break'
    else 'start'
  end
$$;

comment on function pgprog_engine._way_of(
  text, bigint, text, "char", timestamptz, integer, text, timestamptz, integer, interval, integer, timestamptz)
  is 'What a claim does in a process of which nothing runs, by its first task and its first due timer';
