/*
 * Remove a process at once for every reader; return whether it was there to be removed.
 *
 * Open tasks, the running one too, end as cancelled with cause removed; history goes in the
 * background; the id may be used again at once.  With a version it is removed only if it has not
 * changed since, so that a repeat never meets the next process of that id.  Returns false where there
 * is no process, or it has another version.
 *
 * Locks the process row, waiting for a completion of that process.
 * Raises UP007: no such namespace.  UP010: the transaction is not read committed.
 */
create or replace function pgprog.remove(namespace text, process_id text, version bigint = null)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_incarnation bigint;
  v_version bigint;
begin
  perform pgprog_engine._require_read_committed();
  perform pgprog_engine._require_request(remove.namespace, remove.process_id, null);
  select p.incarnation, p.version into v_incarnation, v_version
  from pgprog_data.processes as p
  where p.namespace = remove.namespace
    and p.process_id = remove.process_id
  for update;
  if v_incarnation is null or v_version <> remove.version then
    return false;
  end if;
  perform pgprog_engine._remove_processes(array[v_incarnation], 'removed', pgprog_engine._clock());
  perform pgprog_engine._audit(
    'remove', remove.namespace, remove.process_id, null, jsonb_build_object('version', v_version), 'true');
  return true;
end
$$;

comment on function pgprog.remove(text, text, bigint) is 'Remove a process at once for every reader; return whether it was there to be removed';
