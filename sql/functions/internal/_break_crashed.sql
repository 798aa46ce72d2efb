/*
 * End tasks that crashed their workers too often and break their processes.
 *
 * The caller holds the process rows; the tasks are waiting or blocked heads.
 */
create or replace function pgprog_engine._break_crashed(task_ids bigint[], at timestamptz)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  v_incarnations bigint[];
begin
  with gone as (
    delete from pgprog_data.queue as q
    where q.task_id = any (_break_crashed.task_ids)
    returning q.*
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
    where p.incarnation = g.incarnation
      and g.type <> 'repair'
    returning p.incarnation, p.namespace
  ),
  noted as (
    insert into pgprog_data.ended_processes (incarnation, namespace, status, at)
    select b.incarnation, b.namespace, 'error', _break_crashed.at from broken as b
    on conflict (incarnation) do nothing
  )
  select array_agg(b.incarnation) into v_incarnations from broken as b;

  perform pgprog_engine._end_tasks(v_incarnations, 'process broken: zombie detected', _break_crashed.at);
  update pgprog_data.timers as t
  set status = 's'
  where t.incarnation = any (v_incarnations);
end
$$;

comment on function pgprog_engine._break_crashed(bigint[], timestamptz) is 'End tasks that crashed their workers too often and break their processes';
