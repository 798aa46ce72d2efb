-- Work that is due for long although a live worker serves its namespace.
select
  case when n.running >= n.concurrency then 'warning' else 'critical' end as severity,
  format('namespace %s', n.namespace) as subject,
  format('work is due since %s; %s', date_trunc('second', n.due_since),
    case when n.running >= n.concurrency
      then format('%s of at most %s tasks run: the limit of the namespace is reached', n.running, n.concurrency)
      else format('its %s live workers run %s tasks: they do not keep up, or stand still', n.workers, n.running) end) as cause,
  jsonb_build_object(
    'namespace', n.namespace, 'process_id', n.due_process, 'since', n.due_since, 'running', n.running,
    'concurrency', n.concurrency, 'workers', n.workers) as evidence,
  null as sql,
  case when n.running >= n.concurrency
    then array['pgprog', 'namespace', 'set', '--', n.namespace, format('concurrency=%s', 2 * n.concurrency)]
    else array['pgprog', 'worker'] end as command
from pgprog.inspect_namespaces() as n
where n.due_since < clock_timestamp() - current_setting('pgprog.long')::interval
  and n.workers > 0
  and n.paused_at is null
