/*
 * Return the processes with tasks due or running whose rows an open transaction holds, and the session that does.
 *
 * Without a process: the session keeps every task of the namespace from starting.
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
  ),
  -- Apart: no plan looks them up again for each open transaction of the server.
  touched as materialized (
    select p.namespace, p.process_id, p.xmax as xid
    from near as x
    join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
    where p.xmax <> '0'
  )
  select l.pid, t.namespace, t.process_id
  from touched as t
  join pg_catalog.pg_locks as l on l.locktype = 'transactionid' and l.transactionid = t.xid
  where l.mode = 'ExclusiveLock' and l.granted
  union all
  select s.pid, s.namespace, null from pgprog_engine._stoppers() as s
$$;

comment on function pgprog.inspect_held() is 'Processes with work to do that an open transaction holds; for pgprog doctor';
