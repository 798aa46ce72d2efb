-- A schema that is not the one of this pgprog: files that are missing or changed, or that it does not know.
with package as (
  select f.key as name, f.value as sha256 from jsonb_each_text(current_setting('pgprog.files')::jsonb) as f
),
applied as (
  select s.name, encode(s.sha256, 'hex') as sha256, s.applied_at from pgprog.inspect_schema() as s
),
behind as (
  select count(*) as files, min(p.name) as first
  from package as p
  left join applied as a on a.name = p.name
  where p.name <> 'publication.sql' and a.sha256 is distinct from p.sha256
),
ahead as (
  select count(*) as files, min(a.name) as first
  from applied as a
  where a.name like 'migrations/%' and not exists (select from package as p where p.name = a.name)
)
select
  'critical' as severity,
  'schema' as subject,
  format('%s files of this pgprog are missing in the database or differ, the first is %s', b.files, b.first) as cause,
  jsonb_build_object('files', b.files, 'first', b.first) as evidence,
  null as sql,
  array['pgprog', 'db', 'migrate'] as command
from behind as b
where b.files > 0 and not exists (select from ahead as a where a.files > 0)
union all
select
  'critical', 'schema',
  format('the database has migration %s, which this pgprog %s does not know', a.first, current_setting('pgprog.version')),
  jsonb_build_object('files', a.files, 'first', a.first),
  null,
  array['pip', 'install', '--upgrade', 'pgprog']
from ahead as a
where a.files > 0
