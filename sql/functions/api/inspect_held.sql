/*
 * Return the processes with tasks due or running whose rows an open transaction holds, and the session that does.
 *
 * Looks at the first 50 due tasks of each namespace that is not paused, and at those that run; a row that
 * several sessions hold in common is passed by.  A worker holds rows for the moment of a round trip.
 */
create or replace function pgprog.inspect_held()
returns table (pid integer, namespace text, process_id text)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
as $$
  with near as materialized (
    select q.incarnation
    from pgprog_data.namespaces as n
    cross join lateral (
      select q.incarnation from pgprog_data.queue as q
      where q.namespace = n.namespace and q.status = 'w' and q.needs_version is null
      order by q.rank, q.task_id limit 50
    ) as q
    where n.paused_at is null
    union
    select q.incarnation from pgprog_data.queue as q where q.status = 'r'
  )
  select l.pid, p.namespace, p.process_id
  from near as x
  join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
  join pg_catalog.pg_locks as l on l.locktype = 'transactionid' and l.transactionid = p.xmax
  where l.mode = 'ExclusiveLock' and l.granted
$$;

comment on function pgprog.inspect_held() is 'Processes with work to do that an open transaction holds; for pgprog doctor';
