/*
 * End a worker seen at this renewal count for a whole lease, and free running tasks without a worker.
 *
 * With a null worker only the tasks of workers that are no longer registered are freed.  A worker
 * that has renewed meanwhile, or is claiming at this moment, is left alone: 0 is returned.
 * Locks: worker (for update, skip locked), then the queue rows.
 */
create or replace function pgprog_engine.collect_zombies(worker_id bigint, renewals bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_read_committed();
  if collect_zombies.worker_id is not null then
    perform 1
    from pgprog_data.workers as w
    where w.worker_id = collect_zombies.worker_id
      and w.renewals = collect_zombies.renewals
    for update skip locked;
    if not found then
      return 0;
    end if;
    delete from pgprog_data.workers as w where w.worker_id = collect_zombies.worker_id;
  end if;
  return coalesce((
    select pgprog_engine._let_go(array_agg(q.task_id), array_agg(q.claim_id), true)
    from pgprog_data.queue as q
    where q.status = 'r'
      and coalesce(q.worker_id, 0) <> all (array(select w.worker_id from pgprog_data.workers as w))), 0);
end
$$;

comment on function pgprog_engine.collect_zombies(bigint, bigint)
  is 'End a worker seen at this renewal count for a whole lease, and free running tasks without a worker';
