-- Transaction ids that are not frozen in time: past two thousand million PostgreSQL takes no more writes.
select
  case when age(d.datfrozenxid) > 1000000000 then 'critical' else 'warning' end as severity,
  format('database %s', d.datname) as subject,
  format('its oldest transaction id is %s old and autovacuum should have frozen it at %s: something holds it back, or it is off',
    age(d.datfrozenxid), current_setting('autovacuum_freeze_max_age')) as cause,
  jsonb_build_object('database', d.datname, 'age', age(d.datfrozenxid)) as evidence,
  'vacuum (freeze);  -- in that database, once no finding holds xmin' as sql,
  null::text[] as command
from pg_database as d
where d.datname = current_database()
  and age(d.datfrozenxid) > 1.5 * current_setting('autovacuum_freeze_max_age')::bigint
