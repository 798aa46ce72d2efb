/*
 * End an incarnation that stops cleanly: what it still holds is handed back, no attempt burned.
 */
create or replace function pgprog_engine.deregister_worker(worker_id bigint)
returns integer
language sql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select pgprog_engine._end_incarnation(worker_id, false)
$$;

comment on function pgprog_engine.deregister_worker(bigint) is 'End an incarnation that stops cleanly; return how many tasks it handed back';
