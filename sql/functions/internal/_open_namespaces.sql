/*
 * Return those of these namespaces that nobody is pausing; none can be paused until the end of the transaction.
 *
 * Read paused_at in a later statement: what was committed before the lock was had is seen then.
 * Never waits.  Locks: the lock of starts of each namespace, shared.
 */
create or replace function pgprog_engine._open_namespaces(namespaces text[])
returns text[]
language plpgsql
as $$
begin
  -- Mostly all are one: the statement would take four times as long.
  if namespaces[1] = all (namespaces) then
    return case when pg_try_advisory_xact_lock_shared(pgprog_engine._starts_lock(namespaces[1])) then namespaces[1:1] else '{}' end;
  end if;
  return coalesce((
    select array_agg(x.namespace)
    from (select distinct n.namespace from unnest(namespaces) as n(namespace)) as x
    where pg_try_advisory_xact_lock_shared(pgprog_engine._starts_lock(x.namespace))), '{}');
end
$$;

comment on function pgprog_engine._open_namespaces(text[])
  is 'Those of these namespaces that nobody is pausing; none can be paused until the end of the transaction';
