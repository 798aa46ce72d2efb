/*
 * Renew the lease of a worker and return the claims that it holds.
 *
 * What the worker does not know of them it hands back, once every round trip that was in flight at
 * the renewal has ended.  Steps in begun are marked: a crash counts for those.  One that a completion
 * holds at this moment is passed by: it ends.  Locks: worker, then queue rows (skip locked).
 *
 * Raises UP002: the collector has ended this incarnation; its claims are gone.
 */
create or replace function pgprog_engine.renew_worker(
  worker_id bigint, lease interval, begun bigint[], out task_id bigint, out claim_id bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  update pgprog_data.workers as w
  set renewals = w.renewals + 1, lease_until = pgprog_engine._clock() + renew_worker.lease
  where w.worker_id = renew_worker.worker_id;
  if not found then
    raise exception 'the lease of worker % is lost', renew_worker.worker_id using errcode = 'UP002';
  end if;
  update pgprog_data.queue as q
  set begun = true
  where q.task_id = any (array(
    select b.task_id from pgprog_data.queue as b
    where b.task_id = any (renew_worker.begun)
      and b.worker_id = renew_worker.worker_id
      and b.status = 'r'
      and not b.begun
    for no key update skip locked));
  return query
    select q.task_id, q.claim_id from pgprog_data.queue as q
    where q.status = 'r' and q.worker_id = renew_worker.worker_id;
end
$$;

comment on function pgprog_engine.renew_worker(bigint, interval, bigint[]) is 'Renew the lease of a worker and return the claims that it holds';
