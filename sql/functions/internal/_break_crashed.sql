/*
 * End tasks and timers that crashed their workers too often and break their processes.
 *
 * A repair breaks nothing, the next repair may go.  The caller holds the process rows; the tasks
 * are waiting or blocked heads, or timers whose turn it is.
 */
create or replace function pgprog_engine._break_crashed(task_ids bigint[], at timestamptz)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_incarnations bigint[];
  v_broken bigint[];
begin
  with gone_tasks as (
    delete from pgprog_data.queue as q
    where q.task_id = any (_break_crashed.task_ids)
    returning q.*
  ),
  gone_timers as (
    delete from pgprog_data.timers as t
    where t.task_id = any (_break_crashed.task_ids)
    returning t.*
  ),
  gone as (
    select
      g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, g.priority, g.attempt, g.crashes,
      g.due_at, g.created_at, g.started_at, g.key, g.args, g.context
    from gone_tasks as g
    union all
    select
      g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 0, g.attempt, g.crashes,
      g.due_at, g.created_at, null, null, null::jsonb, g.context
    from gone_timers as g
  ),
  ended as (
    insert into pgprog_data.tasks (
      task_id, namespace, process_id, incarnation, type, name, status, priority, attempt, crashes,
      due_at, created_at, started_at, ended_at, key, args, context, error)
    select
      g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 'error', g.priority, g.attempt, g.crashes,
      g.due_at, g.created_at, g.started_at, _break_crashed.at, g.key, g.args, g.context,
      jsonb_build_object('error_type', 'Crashed', 'detail', 'zombie detected', 'attempt', g.attempt)
    from gone as g
  ),
  broken as (
    update pgprog_data.processes as p
    set status = 'error', previous_status = p.status, status_changed_at = _break_crashed.at,
      detail = 'zombie detected', corrupted_by = g.task_id, version = nextval('pgprog_data.versions'),
      changed_at = greatest(_break_crashed.at, p.changed_at)
    from gone as g
    where p.incarnation = any (array[g.incarnation])
      and g.type <> 'repair'
    returning p.incarnation, p.namespace, g.type, g.name, g.priority, g.args, g.context
  ),
  noted as (
    insert into pgprog_data.ended_processes (incarnation, namespace, status, at, type, name, priority, args, context)
    select b.incarnation, b.namespace, 'error', _break_crashed.at, b.type, b.name, b.priority, b.args, b.context
    from broken as b
    on conflict (incarnation) do nothing
  )
  select array_agg(g.incarnation), array_agg(g.incarnation) filter (where g.type <> 'repair')
  into v_incarnations, v_broken
  from gone as g;

  perform pgprog_engine._end_tasks(v_broken, null, _break_crashed.at);
  update pgprog_data.timers as t
  set status = 's'
  where t.incarnation = any (v_broken);
  perform pgprog_engine._let_next_go(v_incarnations);
end
$$;

comment on function pgprog_engine._break_crashed(bigint[], timestamptz)
  is 'End tasks and timers that crashed their workers too often and break their processes';
