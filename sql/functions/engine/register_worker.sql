/*
 * Begin an incarnation of a worker that serves these namespaces; return its id.
 *
 * Namespaces that are missing are created with settings; existing ones are left as they are.
 * settings: one object a namespace.  state_versions: the newest version of states that the worker reads
 * in each, 1 where it does not say; it starts no task of a process whose state is newer, and may begin
 * while there are such.  Locks nothing that a running worker needs.
 */
create or replace function pgprog_engine.register_worker(name text, namespaces text[], settings jsonb[], lease interval,
  state_versions integer[] = '{}')
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_worker_id bigint := nextval('pgprog_data.worker_ids');
  v_at timestamptz := pgprog_engine._clock();
  v_pos integer;
begin
  for v_pos in 1 .. coalesce(cardinality(register_worker.namespaces), 0) loop
    perform pgprog_engine._create_namespace(register_worker.namespaces[v_pos], register_worker.settings[v_pos]);
  end loop;
  insert into pgprog_data.workers (worker_id, name, namespaces, state_versions, lease_until, started_at)
  values (
    v_worker_id, register_worker.name, register_worker.namespaces, register_worker.state_versions, v_at + register_worker.lease, v_at);
  return v_worker_id;
end
$$;

comment on function pgprog_engine.register_worker(text, text[], jsonb[], interval, integer[]) is 'Begin an incarnation of a worker; return its id';
