-- Namespaces that are paused for long: perhaps somebody forgot.
select
  'warning' as severity,
  format('namespace %s', n.namespace) as subject,
  format('it is paused since %s%s: %s',
    date_trunc('second', n.paused_at), ' by ' || p.paused_by, coalesce(n.pause_reason, 'no reason given')) as cause,
  jsonb_build_object(
    'namespace', n.namespace, 'since', n.paused_at, 'by', p.paused_by, 'reason', n.pause_reason,
    'due_since', n.due_since) as evidence,
  null as sql,
  array['pgprog', 'namespace', 'resume', '--', n.namespace] as command
from pgprog.inspect_namespaces() as n
join pgprog.namespaces as p on p.namespace = n.namespace
where n.paused_at < clock_timestamp() - current_setting('pgprog.long')::interval
