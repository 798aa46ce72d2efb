-- Tasks of dead workers that nobody gives to another: no collector is at work.
select
  'critical' as severity,
  format('worker %s', coalesce(z.name, z.worker_id::text)) as subject,
  format('it is dead%s, %s tasks of %s still count as running, and no collector has freed them',
    coalesce(' since ' || date_trunc('second', z.lease_until)::text, ''), z.tasks, array_to_string(z.namespaces, ', ')) as cause,
  jsonb_build_object(
    'worker_id', z.worker_id, 'name', z.name, 'since', z.lease_until, 'tasks', z.tasks, 'namespaces', z.namespaces) as evidence,
  null as sql,
  array['pgprog', 'worker', '--only', 'collector'] as command
from pgprog.inspect_zombies(least(current_setting('pgprog.long')::interval, interval '1 min')) as z
