-- Processes in status init that no task will begin.
select
  case when p.process_id is null then 'unseen' else 'critical' end as severity,
  case when p.process_id is null then 'processes' else format('process %s in namespace %s', p.process_id, p.namespace) end as subject,
  case when p.process_id is null then format('%s %% of all were looked at', round(p.share::numeric, 2))
    else format('it is in status init since %s and has no task that could begin it', date_trunc('second', p.created_at)) end as cause,
  jsonb_build_object(
    'namespace', p.namespace, 'process_id', p.process_id, 'incarnation', p.incarnation, 'since', p.created_at) as evidence,
  null as sql,
  case when p.process_id is not null then array['pgprog', 'process', 'remove', '--yes', '--', p.namespace, p.process_id] end as command
from pgprog.inspect_processes() as p
where p.process_id is not null or p.share < 100
