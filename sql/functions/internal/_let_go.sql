/*
 * Take running tasks from their worker; return how many.
 *
 * A task waits again in its old place, a timer goes back into the timers, where SetTimer and
 * UnsetTimer find it; it is due though the clock was set back, for tasks may be blocked behind it.  When
 * crashed, an attempt is recorded as lost, and it counts as a crash for steps that had begun;
 * otherwise no attempt is burned.
 * Needs no process lock: running to waiting takes nobody's place.
 */
create or replace function pgprog_engine._let_go(task_ids bigint[], claim_ids bigint[], crashed boolean)
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
  with held as (
    select q.*
    from (
      select u.task_id, u.claim_id from unnest(_let_go.task_ids, _let_go.claim_ids) as u(task_id, claim_id) order by u.task_id
    ) as x
    -- What locks stays a sub-select of its own: no plan begins with the queue.
    cross join lateral (
      select * from pgprog_data.queue as q
      where q.task_id = x.task_id and q.claim_id = x.claim_id
      for update skip locked
    ) as q
  ),
  lost as (
    insert into pgprog_data.attempts (namespace, task_id, claim_id, attempt, worker_id, outcome, started_at, ended_at)
    select h.namespace, h.task_id, h.claim_id, h.attempt, h.worker_id, 'lost', h.started_at, pgprog_engine._clock()
    from held as h
    where _let_go.crashed
  ),
  freed as (
    delete from pgprog_data.queue as q
    using held as h
    where q.task_id = any (array[h.task_id])
      and h.type in ('timeout', 'remove')
  ),
  back as (
    insert into pgprog_data.timers (
      incarnation, name, task_id, namespace, process_id, type, due_at, attempt, crashes, created_at, context)
    select h.incarnation, h.name, h.task_id, h.namespace, h.process_id, h.type, least(h.due_at, pgprog_engine._clock()),
      h.attempt - (not _let_go.crashed)::integer, h.crashes + (_let_go.crashed and h.begun)::integer, h.created_at, h.context
    from held as h
    where h.type in ('timeout', 'remove')
    on conflict (incarnation, name) do nothing
  ),
  waiting as (
    update pgprog_data.queue as q
    set status = 'w', worker_id = null, claim_id = null, started_at = null, begun = false,
      attempt = q.attempt - (not _let_go.crashed)::integer,
      crashes = q.crashes + (_let_go.crashed and q.begun)::integer
    from held as h
    where q.task_id = any (array[h.task_id])
      and h.type not in ('timeout', 'remove')
  )
  select count(*) into v_count from held;
  return v_count;
end
$$;

comment on function pgprog_engine._let_go(bigint[], bigint[], boolean) is 'Take running tasks from their worker; return how many';
