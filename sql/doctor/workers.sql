-- Namespaces with due work that no live worker takes, or none that reads the newest states.
select
  'critical' as severity,
  format('namespace %s', n.namespace) as subject,
  format('work is due since %s and no live worker serves the namespace', date_trunc('second', n.due_since)) as cause,
  jsonb_build_object('namespace', n.namespace, 'since', n.due_since, 'process_id', n.due_process) as evidence,
  null as sql,
  array['pgprog', 'worker'] as command
from pgprog.inspect_namespaces() as n
where n.due_since is not null and n.workers = 0 and n.paused_at is null
union all
select
  'critical',
  format('namespace %s', n.namespace),
  format('work is due since %s and no live worker reads states of version %s', date_trunc('second', n.aside_since), n.aside_version),
  jsonb_build_object('namespace', n.namespace, 'since', n.aside_since, 'state_version', n.aside_version, 'workers', n.workers),
  null,
  array['pgprog', 'worker']
from pgprog.inspect_namespaces() as n
where n.aside_since is not null and n.aside_workers = 0 and n.paused_at is null
