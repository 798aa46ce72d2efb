/*
 * Return the sessions that keep tasks of namespaces from starting: they hold the lock of starts exclusive, or wait for it.
 *
 * A pause, a resume or a completion that pauses; for a moment, or until the operator's transaction ends.  Who waits
 * for the lock keeps it from others, too.
 */
create or replace function pgprog_engine._stoppers()
returns table (pid integer, namespace text, granted boolean)
language sql stable
as $$
  with held as materialized (
    select l.pid, (l.classid::bigint << 32) | l.objid::bigint as key, l.granted
    from pg_catalog.pg_locks as l
    where l.locktype = 'advisory'
      and l.objsubid = 1
      and l.mode = 'ExclusiveLock'
      and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
  )
  select h.pid, n.namespace, h.granted
  from held as h
  join pgprog_data.namespaces as n on pgprog_engine._starts_lock(n.namespace) = h.key
$$;

comment on function pgprog_engine._stoppers() is 'The sessions that keep tasks of namespaces from starting';
