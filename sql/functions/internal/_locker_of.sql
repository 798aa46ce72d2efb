/*
 * Return the session whose open transaction holds the row of a process, by the row's xmax; no row if none does.
 *
 * Claims pass such a process by.  A statement in flight of less than a second, as a worker's, does not
 * count.  Of other roles than the owner of this function, sessions are seen only if it has
 * pg_read_all_stats.
 */
create or replace function pgprog_engine._locker_of(incarnation bigint)
returns table (pid integer, since timestamptz)
language sql stable
as $$
  select a.pid, a.xact_start
  from pgprog_data.processes as p
  join pg_catalog.pg_locks as l on l.locktype = 'transactionid' and l.transactionid = p.xmax
  join pg_catalog.pg_stat_activity as a on a.pid = l.pid
  where p.incarnation = _locker_of.incarnation
    and l.mode = 'ExclusiveLock'
    and l.granted
    and a.pid <> pg_backend_pid()
    and (a.state like 'idle in transaction%' or a.xact_start < pgprog_engine._clock() - interval '1 s')
  limit 1
$$;

comment on function pgprog_engine._locker_of(bigint)
  is 'The session whose open transaction holds the row of a process; no row if none does';
