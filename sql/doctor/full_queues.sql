-- Queues at their limit, as workers measured them last: requests are refused, or the lowest are dropped.  What was
-- measured more than five minutes ago refuses nobody.
select
  'critical' as severity,
  format('namespace %s', n.namespace) as subject,
  format('%s tasks wait and max_queue is %s: %s', n.queued, n.max_queue,
    case n.on_full when 'refuse' then 'new requests are refused' else 'the lowest are cancelled' end) as cause,
  jsonb_build_object(
    'namespace', n.namespace, 'tasks', n.queued, 'max_queue', n.max_queue, 'on_full', n.on_full, 'measured_at', n.measured_at,
    'workers', n.workers) as evidence,
  null as sql,
  array['pgprog', 'namespace', 'set', '--', n.namespace, format('max_queue=%s', 2 * greatest(n.queued, n.max_queue))] as command
from pgprog.inspect_namespaces() as n
where n.queued >= n.max_queue and n.measured_at > clock_timestamp() - interval '5 min'
