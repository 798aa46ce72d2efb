/*
 * Let tasks start again in a paused namespace; return whether it was paused.
 *
 * Locks: the lock of starts of the namespace, exclusive, then its row.  Raises UP007: no such namespace.
 * UP015: it is for other roles.
 */
create or replace function pgprog.resume(namespace text)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_caller(resume.namespace);
  perform pg_advisory_xact_lock(pgprog_engine._starts_lock(resume.namespace));
  update pgprog_data.namespaces as n
  set paused_at = null, pause_reason = null
  where n.namespace = resume.namespace
    and n.paused_at is not null;
  if found then
    return true;
  end if;
  if not exists (select 1 from pgprog_data.namespaces as n where n.namespace = resume.namespace) then
    raise exception '%', pgprog_engine._refusal('UP007', resume.namespace, null, null) using errcode = 'UP007';
  end if;
  return false;
end
$$;

comment on function pgprog.resume(text) is 'Let tasks start again in a paused namespace; return whether it was paused';
