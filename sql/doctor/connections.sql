-- Connections near their limit: the next worker, or the next heartbeat after a break, is turned away.
-- Walsenders, autovacuum and parallel workers have places of their own.  What a role may not see of a session is null.
with taken as (
  select a.usename, a.application_name
  from pg_stat_activity as a
  where a.datid is not null and coalesce(a.backend_type, 'client backend') = 'client backend'
),
counted as (
  select
    count(*) as used,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer as allowed
  from taken
),
most as (
  select a.usename, a.application_name, count(*) as sessions
  from taken as a
  group by a.usename, a.application_name
  order by count(*) desc limit 1
)
select
  case when c.used >= c.allowed then 'critical' else 'warning' end as severity,
  'connections' as subject,
  format('%s of %s are taken, %s of them by %s of %s', c.used, c.allowed, m.sessions,
    coalesce(nullif(m.application_name, ''), 'programs without a name'), m.usename) as cause,
  jsonb_build_object(
    'used', c.used, 'allowed', c.allowed, 'application_name', m.application_name, 'user', m.usename,
    'sessions', m.sessions) as evidence,
  format('alter system set max_connections = %s;  -- then restart PostgreSQL; or make the pools of clients smaller',
    2 * current_setting('max_connections')::integer) as sql,
  null::text[] as command
from counted as c, most as m
where c.used >= 0.85 * c.allowed
