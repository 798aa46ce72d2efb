-- Timers that the engine never leaves in such a state: held back by nothing, or without their process.
select
  'critical' as severity,
  format('timer %L of process %s in namespace %s', t.name, t.process_id, t.namespace) as subject,
  case t.fault
    when 'stuck' then 'it is held back, but no task of its process runs or waits: nothing lets it go'
    else 'its process is gone' end as cause,
  jsonb_build_object(
    'fault', t.fault, 'task_id', t.task_id, 'namespace', t.namespace, 'process_id', t.process_id, 'incarnation', t.incarnation,
    'name', t.name, 'due_at', t.since) as evidence,
  case t.fault when 'stuck' then format('select pgprog_engine._let_next_go(array[%s]::bigint[]);  -- as the owner', t.incarnation) end as sql,
  case t.fault when 'lost' then array['pgprog', 'task', 'cancel', t.task_id::text, '--yes'] end as command
from pgprog.inspect_timers() as t
