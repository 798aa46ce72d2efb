-- Tasks that the engine never leaves in such a state: blocked behind nothing, or without their process.
select
  'critical' as severity,
  format('task %s', q.task_id) as subject,
  case q.fault
    when 'stuck' then format('it is blocked behind no task of process %s in namespace %s: nothing lets it go', q.process_id, q.namespace)
    else format('it is due since %s and its process %s in namespace %s is gone', date_trunc('second', q.since), q.process_id, q.namespace)
  end as cause,
  jsonb_build_object(
    'fault', q.fault, 'task_id', q.task_id, 'namespace', q.namespace, 'process_id', q.process_id, 'incarnation', q.incarnation,
    'since', q.since) as evidence,
  case q.fault when 'stuck' then format('select pgprog_engine._let_next_go(array[%s]::bigint[]);  -- as the owner', q.incarnation) end as sql,
  case q.fault when 'lost' then array['pgprog', 'task', 'cancel', q.task_id::text, '--yes'] end as command
from pgprog.inspect_queue(current_setting('pgprog.long')::interval) as q
