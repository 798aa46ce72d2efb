-- Sessions whose transactions are open for long: what they hold stands still, and no dead row is removed.
-- What a session has written or locked in a table is seen by its locks.  Without pg_read_all_stats only
-- sessions of one's own roles are seen.
with touched as (
  select
    l.pid,
    array_agg(distinct case c.relname
      when 'keys' then 'idempotency keys: repeats of its requests are refused until it ends'
      when 'processes' then 'rows of processes: no task of theirs starts or ends until then'
      when 'queue' then 'tasks that nobody sees before its commit'
      when 'namespaces' then 'the row of a namespace: no pause, resume or change of settings until then'
    end) as holds
  from pg_locks as l
  join pg_class as c on c.oid = l.relation
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'pgprog_data'
  join pg_database as d on d.oid = l.database and d.datname = current_database()
  where l.granted
    and l.mode in ('RowExclusiveLock', 'RowShareLock')
    and c.relname in ('keys', 'processes', 'queue', 'namespaces')
  group by l.pid
),
held as (
  select
    h.pid, array_agg(h.namespace || ' ' || h.process_id) filter (where h.process_id is not null) as processes,
    array_agg(distinct h.namespace) filter (where h.process_id is null) as stopped
  from pgprog.inspect_held() as h
  group by h.pid
),
seen as (
  select a.*, h.processes, h.stopped,
    t.holds || case when h.stopped is not null
      then array[format('the starts of %s: no task starts there until it ends', array_to_string(h.stopped, ', '))] end as holds,
    greatest(age(a.backend_xmin), age(a.backend_xid)) as xmin_age
  from pg_stat_activity as a
  left join touched as t on t.pid = a.pid
  left join held as h on h.pid = a.pid
  where a.datname = current_database()
    and a.pid <> pg_backend_pid()
    and a.backend_type = 'client backend'
    and a.xact_start < clock_timestamp() - current_setting('pgprog.long')::interval
)
select
  case when s.holds is null then 'warning' else 'critical' end as severity,
  format('session %s', s.pid) as subject,
  format('%s of %s is %s, in a transaction open since %s; it holds %s',
    coalesce(nullif(s.application_name, ''), 'a program without a name'), s.usename, s.state,
    date_trunc('second', s.xact_start),
    coalesce(nullif(array_to_string(
      s.holds || case when s.xmin_age is not null
        then format('xmin, %s transactions old: no dead row since then is removed', s.xmin_age) end, '; '), ''), 'nothing yet'))
  as cause,
  jsonb_build_object(
    'pid', s.pid, 'application_name', s.application_name, 'user', s.usename, 'client', s.client_addr, 'state', s.state,
    'since', s.xact_start, 'xmin_age', s.xmin_age, 'processes', s.processes, 'stopped', s.stopped,
    'waits_for', s.wait_event) as evidence,
  format('select pg_terminate_backend(%s);', s.pid) as sql,
  null::text[] as command
from seen as s
union all
select
  'unseen', 'sessions', format('what %s sessions of other roles do is hidden from %s', count(*), current_user), null,
  format('grant pg_read_all_stats to %I;', current_user), null
from pg_stat_activity as a
where a.datname = current_database()
  and not pg_has_role('pg_read_all_stats', 'usage')
  and not pg_has_role(a.usesysid, 'usage')
having count(*) > 0
