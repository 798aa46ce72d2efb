/*
 * Return the renewal counter of each worker, for the collector's own watch.
 */
create or replace function pgprog_engine.list_workers()
returns table (worker_id bigint, renewals bigint)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select w.worker_id, w.renewals from pgprog_data.workers as w
$$;

comment on function pgprog_engine.list_workers() is 'The renewal counter of each worker, for the collector''s own watch';
