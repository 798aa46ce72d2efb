-- Partitions of ended tasks: this week and the next must be there, those past task_retention must not.
with parents as (
  select c.oid, c.relname as name
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'pgprog_data'
  where c.relkind = 'p' and c.relname in ('tasks', 'attempts')
),
weeks as (
  select p.name || '_' || to_char(w.starts_at at time zone 'UTC', 'YYYYMMDD') as name, w.starts_at
  from parents as p
  cross join lateral generate_series(  -- in hours: a day of the session's zone may have 23 or 25
    date_trunc('week', clock_timestamp(), 'UTC'), clock_timestamp() + interval '168 hours', interval '168 hours') as w(starts_at)
),
parts as (
  select c.relname as name, p.name as parent,
    to_timestamp(right(c.relname, 8), 'YYYYMMDD') + interval '8 days' as ends_at  -- whatever the zone of the session
  from parents as p
  join pg_inherits as i on i.inhparent = p.oid
  join pg_class as c on c.oid = i.inhrelid and c.relname ~ '_[0-9]{8}$'
)
select
  'critical' as severity,
  format('partition %s', w.name) as subject,
  format('it is missing: from %s on no task can end, since nobody makes partitions', w.starts_at::date) as cause,
  jsonb_build_object('partition', w.name, 'starts_at', w.starts_at) as evidence,
  null as sql,
  array['pgprog', 'worker', '--only', 'maintenance'] as command
from weeks as w
where not exists (select from parts as p where p.name = w.name)
union all
select
  'warning',
  format('partition %s', p.name),
  format('all of it is older than task_retention, %s, and nobody drops it: maintenance does not run, or the table is in use',
    current_setting('pgprog.task_retention')),
  jsonb_build_object('partition', p.name, 'ends_at', p.ends_at, 'task_retention', current_setting('pgprog.task_retention')),
  null,
  array['pgprog', 'worker', '--only', 'maintenance']
from parts as p
where p.ends_at < clock_timestamp() - current_setting('pgprog.task_retention')::interval - interval '1 day'
