-- Indexes that are missing, or that a failed build has left invalid.
with expected as (
  select i.key as name, i.value as definition from jsonb_each_text(current_setting('pgprog.indexes')::jsonb) as i
),
present as (
  select c.relname as name, i.indisvalid and i.indisready as is_good, t.relname as on_table
  from pg_index as i
  join pg_class as c on c.oid = i.indexrelid
  join pg_class as t on t.oid = i.indrelid
  join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'pgprog_data'
)
select
  'critical' as severity,
  format('index pgprog_data.%s', e.name) as subject,
  'it is missing: what looked there reads whole tables, or is not kept from what must not be' as cause,
  jsonb_build_object('index', e.name) as evidence,
  e.definition as sql,
  null::text[] as command
from expected as e
where not exists (select from present as p where p.name = e.name)
union all
select
  'critical',
  format('index pgprog_data.%s', p.name),
  format('it is invalid: a build on table %s failed; it is written, and never read', p.on_table),
  jsonb_build_object('index', p.name, 'table', p.on_table),
  case when exists (select from expected as e where e.name = p.name)
    then format('reindex index concurrently pgprog_data.%I;', p.name)
    else format('drop index pgprog_data.%I;', p.name) end,
  null
from present as p
where not p.is_good
