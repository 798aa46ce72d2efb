/*
 * Return the tasks of a process, in the order of their ids; an attempt that was repeated is a row of its own.
 *
 * status of such an attempt is error, with retry_at where a retry was planned and an error of type
 * Lost where its worker was lost.  Open tasks and timers come with the status they have.
 * events are those that the task wrote, as objects.
 *
 * Raises UP001: no such process.  UP007: no such namespace.  UP015: it is for other roles.
 */
create or replace function pgprog.trace(namespace text, process_id text)
returns table (
  task_id bigint, type text, name text, status text, attempt integer, scheduled_at timestamptz,
  started_at timestamptz, ended_at timestamptz, worker text, args jsonb, context jsonb, idempotency_key text,
  response jsonb, error jsonb, retry_at timestamptz, events jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_incarnation bigint := pgprog_engine._find_process(trace.namespace, trace.process_id);
begin
  return query
    with known as (
      select
        t.task_id, t.type, t.name, t.status, t.attempt, t.due_at, t.started_at, t.ended_at, t.worker_id, t.args, t.context,
        t.key, t.response, t.error, null::timestamptz as retry_at, t.first_event_id, t.events
      from pgprog_data.tasks as t
      where t.incarnation = v_incarnation
      union all
      select
        q.task_id, q.type, q.name, pgprog_engine._status_of(q.status), q.attempt, q.due_at, q.started_at, null, q.worker_id,
        q.args, q.context, q.key, null, null, case when q.status = 'h' then q.due_at end, null, 0
      from pgprog_data.queue as q
      where q.incarnation = v_incarnation
      union all
      select
        t.task_id, t.type, t.name, pgprog_engine._status_of(t.status), t.attempt, t.due_at, null, null, null,
        null, t.context, null, null, null, case when t.attempt > 0 then t.due_at end, null, 0
      from pgprog_data.timers as t
      where t.incarnation = v_incarnation
    ),
    shown as (
      select * from known
      union all
      select
        k.task_id, k.type, k.name, 'error', a.attempt, k.due_at, a.started_at, a.ended_at, a.worker_id, k.args, k.context,
        k.key, null, coalesce(a.error, jsonb_build_object('error_type', 'Lost', 'detail', 'the worker was lost')), a.retry_at, null, 0
      from known as k
      join pgprog_data.attempts as a on a.task_id = k.task_id
    )
    select
      s.task_id, s.type, s.name, s.status, s.attempt, s.due_at, s.started_at, s.ended_at,
      (select coalesce(w.name, s.worker_id::text) from (select s.worker_id) as x
       left join pgprog_data.workers as w on w.worker_id = s.worker_id),
      s.args, s.context, s.key, s.response, s.error, s.retry_at,
      case when s.events = 0 then '[]'::jsonb else (
        select coalesce(jsonb_agg(jsonb_build_object(
          'event_id', e.event_id, 'at', e.at, 'payload', e.payload, 'metadata', e.metadata) order by e.event_id), '[]')
        from pgprog_data.events as e
        where e.incarnation = v_incarnation
          and e.event_id between s.first_event_id and s.first_event_id + s.events - 1) end
    from shown as s
    where (select pgprog_engine._may_read(trace.namespace))
    order by s.task_id, s.attempt, s.ended_at nulls last;
end
$$;

comment on function pgprog.trace(text, text) is 'The tasks of a process with their attempts and events, in the order of their ids';
