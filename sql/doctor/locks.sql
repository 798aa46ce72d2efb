-- Sessions that keep everybody from tables of pgprog: by a lock on the whole of one, or by waiting for it,
-- for whoever comes later waits behind them.  Reads the catalogue only, for what else it read would be locked, too.
-- A migration and housekeeping hold such locks for a moment.
with strong as (
  select
    l.pid, l.granted, l.waitstart,
    string_agg(distinct format('%s (%s)', c.relname, l.mode), ', ') as tables,
    bool_or(l.mode = 'AccessExclusiveLock') as is_for_readers
  from pg_locks as l
  join pg_class as c on c.oid = l.relation
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'pgprog_data'
  join pg_database as d on d.oid = l.database and d.datname = current_database()
  where l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    and c.relkind in ('r', 'p')
  group by l.pid, l.granted, l.waitstart
),
-- What a role may not see of a session is null.
seen as (
  select s.*, a.usename, a.client_addr, a.state, a.xact_start, coalesce(s.waitstart, a.xact_start) as since,
    coalesce(nullif(a.application_name, ''), 'a program without a name') as program
  from strong as s
  join pg_stat_activity as a on a.pid = s.pid
)
select
  'critical' as severity,
  format('session %s', s.pid) as subject,
  case
    when s.granted
    then format('%s of %s has locked tables since %s: nobody %s until it ends: %s',
      s.program, s.usename, coalesce(date_trunc('second', s.since)::text, 'a time that is hidden'),
      case when s.is_for_readers then 'reads or writes them' else 'writes to them' end, s.tables)
    else format('%s of %s has waited since %s to lock tables, behind %s, and who comes later waits behind it: %s',
      s.program, s.usename, coalesce(date_trunc('second', s.since)::text, 'a time that is hidden'),
      coalesce(nullif(array_to_string(pg_blocking_pids(s.pid), ', '), ''), 'nobody'), s.tables)
  end as cause,
  jsonb_build_object(
    'pid', s.pid, 'application_name', s.program, 'user', s.usename, 'client', s.client_addr, 'state', s.state,
    'since', s.since, 'is_held', s.granted, 'behind', pg_blocking_pids(s.pid)) as evidence,
  format(case when s.granted then 'select pg_terminate_backend(%s);' else 'select pg_cancel_backend(%s);' end, s.pid) as sql,
  null::text[] as command
from seen as s
where s.since is null
  or s.since <= clock_timestamp() - least(interval '5 s', current_setting('pgprog.long')::interval)
order by s.granted desc, s.since
