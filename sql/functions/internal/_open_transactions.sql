/*
 * Return the sessions whose open transactions have written to the queue, the oldest first.
 *
 * What they asked for is seen by nobody until they commit.  A statement in flight of less than a second,
 * as a worker's, does not count.  Of other roles than the owner of this function, sessions are seen only
 * if it has pg_read_all_stats.
 */
create or replace function pgprog_engine._open_transactions()
returns table (pid integer, since timestamptz)
language sql stable
as $$
  select a.pid, a.xact_start
  from pg_catalog.pg_locks as l
  join pg_catalog.pg_stat_activity as a on a.pid = l.pid
  where l.relation = 'pgprog_data.queue'::regclass
    and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
    and l.mode = 'RowExclusiveLock'
    and l.granted
    and a.pid <> pg_backend_pid()
    and (a.state like 'idle in transaction%' or a.xact_start < pgprog_engine._clock() - interval '1 s')
  order by a.xact_start
$$;

comment on function pgprog_engine._open_transactions()
  is 'The sessions whose open transactions have written to the queue, the oldest first';
