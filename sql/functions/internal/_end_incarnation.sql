/*
 * Delete a worker and take its running tasks from it; return how many.
 *
 * The delete waits for claims, completions and renewals of this worker in flight; those that come
 * later find no worker.  What they committed is seen here: the tasks are looked for in a later statement.
 */
create or replace function pgprog_engine._end_incarnation(worker_id bigint, crashed boolean)
returns integer
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  delete from pgprog_data.workers as w where w.worker_id = _end_incarnation.worker_id;
  return coalesce((
    select pgprog_engine._let_go(array_agg(q.task_id), array_agg(q.claim_id), _end_incarnation.crashed)
    from pgprog_data.queue as q
    where q.status = 'r' and q.worker_id = _end_incarnation.worker_id), 0);
end
$$;

comment on function pgprog_engine._end_incarnation(bigint, boolean) is 'Delete a worker and take its running tasks from it; return how many';
