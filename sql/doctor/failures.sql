-- Namespaces whose tasks fail at this moment: a tenth of the latest, and ten processes in error within an hour.
-- Looked at are the last moments, and then a longer time: beside one that ends many few end in moments.
with latest as (
  select distinct on (f.namespace) f.*
  from (values (1000), (100000)) as w(tasks)
  cross join lateral pgprog.inspect_failures(w.tasks) as f
  where f.failed >= 10
    and 10 * f.failed >= f.ended
  order by f.namespace, w.tasks
)
select
  'warning' as severity,
  format('namespace %s', n.namespace) as subject,
  format('%s of its latest %s tasks failed, most by %s: %s; %s processes broke within the last hour',
    f.failed, f.ended, f.error_type, coalesce(left(f.detail, 100), 'no detail'), n.broken) as cause,
  jsonb_build_object(
    'namespace', n.namespace, 'failed', f.failed, 'ended', f.ended, 'error_type', f.error_type, 'broken', n.broken) as evidence,
  null as sql,
  array['pgprog', 'process', 'repair', '--all', '--namespace', n.namespace, '--error-type', f.error_type, '--simple', '--yes'] as command
from pgprog.inspect_namespaces() as n
join latest as f on f.namespace = n.namespace
where n.broken >= 10
