-- Connections near a limit: the next worker, or the next heartbeat after a break, is turned away.
-- Limits: of the server, for those without a privilege; of roles that use pgprog; of this database.
-- Walsenders, autovacuum and parallel workers have places of their own.  What a role may not see of a session is null.
with taken as (
  select a.usename, a.application_name, l.kind, l.name
  from pg_stat_activity as a
  cross join lateral (values ('server', ''::name), ('role', a.usename), ('database', a.datname)) as l(kind, name)
  where a.datid is not null and coalesce(a.backend_type, 'client backend') = 'client backend'
),
allowed (kind, name, subject, allowed, sql) as (
  select
    'server', '', 'connections',
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
      - coalesce(current_setting('reserved_connections', true)::integer, 0),  -- since PostgreSQL 16
    format('alter system set max_connections = %s;  -- then restart PostgreSQL; or make the pools of clients smaller',
      2 * current_setting('max_connections')::integer)
  union all
  select
    'role', r.rolname, format('connections of role %s', r.rolname), r.rolconnlimit,
    format('alter role %I connection limit %s;', r.rolname, 2 * r.rolconnlimit)
  from pg_roles as r
  where r.rolconnlimit > 0 and not r.rolsuper and has_schema_privilege(r.oid, 'pgprog', 'usage')
  union all
  select
    'database', d.datname, format('connections to database %s', d.datname), d.datconnlimit,
    format('alter database %I connection limit %s;', d.datname, greatest(2 * d.datconnlimit, 100))
  from pg_database as d
  where d.datconnlimit >= 0 and d.datname = current_database()
),
counted as (
  select l.*, count(*) as used
  from allowed as l
  join taken as t on t.kind = l.kind and t.name = l.name
  group by l.kind, l.name, l.subject, l.allowed, l.sql
)
select
  case when c.used >= c.allowed then 'critical' else 'warning' end as severity,
  c.subject,
  format('%s of %s are taken, %s of them by %s of %s', c.used, c.allowed, m.sessions,
    coalesce(nullif(m.application_name, ''), 'programs without a name'), m.usename) as cause,
  jsonb_build_object(
    'used', c.used, 'allowed', c.allowed, 'application_name', m.application_name, 'user', m.usename,
    'sessions', m.sessions) as evidence,
  c.sql,
  null::text[] as command
from counted as c
cross join lateral (
  select t.usename, t.application_name, count(*) as sessions
  from taken as t
  where t.kind = c.kind and t.name = c.name
  group by t.usename, t.application_name
  order by count(*) desc limit 1
) as m
where c.used >= 0.85 * c.allowed
order by c.kind desc
