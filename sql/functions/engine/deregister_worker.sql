/*
 * End an incarnation that stops cleanly: what it still holds is handed back, no attempt burned.
 */
create or replace function pgprog_engine.deregister_worker(worker_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  delete from pgprog_data.workers as w where w.worker_id = deregister_worker.worker_id;
  return coalesce((
    select pgprog_engine._let_go(array_agg(q.task_id), array_agg(q.claim_id), false)
    from pgprog_data.queue as q
    where q.status = 'r' and q.worker_id = deregister_worker.worker_id), 0);
end
$$;

comment on function pgprog_engine.deregister_worker(bigint) is 'End an incarnation that stops cleanly; return how many tasks it handed back';
