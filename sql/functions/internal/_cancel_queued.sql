/*
 * Take tasks out of the queue and record them as cancelled, with their cause; return how many.
 *
 * The caller holds their process rows, or has deleted them.
 */
create or replace function pgprog_engine._cancel_queued(task_ids bigint[], cause text, at timestamptz)
returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_count integer;
begin
  with gone as (
    delete from pgprog_data.queue as q
    using unnest(_cancel_queued.task_ids) as x(task_id)
    where q.task_id = any (array[x.task_id])
    returning q.*
  )
  insert into pgprog_data.tasks (
    task_id, namespace, process_id, incarnation, type, name, status, priority, attempt, crashes,
    due_at, created_at, started_at, ended_at, worker_id, key, args, context, error)
  select
    g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 'cancelled', g.priority, g.attempt, g.crashes,
    g.due_at, g.created_at, case when g.status = 'r' then g.started_at end, _cancel_queued.at, g.worker_id,
    g.key, g.args, g.context, jsonb_build_object('cause', _cancel_queued.cause)
  from gone as g;
  get diagnostics v_count = row_count;
  return v_count;
end
$$;

comment on function pgprog_engine._cancel_queued(bigint[], text, timestamptz)
  is 'Take tasks out of the queue and record them as cancelled; return how many';
