/*
 * Turn due timers into running tasks of a worker.
 *
 * The caller holds the process rows and has seen, in a later statement, that none of them runs.
 */
create or replace function pgprog_engine._start_timers(
  worker_id bigint, incarnations bigint[], names text[], at timestamptz)
returns setof pgprog_data.queue
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  return query
    with due as (
      delete from pgprog_data.timers as t
      using unnest(_start_timers.incarnations, _start_timers.names) as x(incarnation, name)
      where t.incarnation = any (array[x.incarnation])
        and t.name = x.name
      returning t.*
    )
    insert into pgprog_data.queue as q (
      task_id, namespace, process_id, incarnation, type, name, status, attempt, crashes, due_at, rank, created_at,
      started_at, worker_id, claim_id, context)
    select
      d.task_id, d.namespace, d.process_id, d.incarnation, d.type, d.name, 'r', d.attempt + 1, d.crashes, d.due_at, d.due_at,
      d.created_at, _start_timers.at, _start_timers.worker_id, pgprog_engine._new_claim_id(), d.context
    from due as d
    returning q.*;
end
$$;

comment on function pgprog_engine._start_timers(bigint, bigint[], text[], timestamptz) is 'Turn due timers into running tasks of a worker';
