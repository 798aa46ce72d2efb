-- What processes, their histories and their timers leave in the tables: asking for them would take hours.

-- processes: from one number to before another
insert into pgprog_data.processes (
  namespace, process_id, incarnation, status, status_changed_at, version, last_event_id, created_at,
  changed_at, state)
select %(namespace)s, 'counter-' || lpad(n::text, 8, '0'), nextval('pgprog_data.task_ids'), 'running',
  now(), nextval('pgprog_data.versions'), %(events)s, now(), now(), %(state)s
from generate_series(%(start)s, %(stop)s - 1) as n;

-- events: the one of a number for each of these processes
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select incarnation, %(event_id)s, incarnation, now(), %(event)s
from pgprog_data.processes
where namespace = %(namespace)s
  and process_id >= 'counter-' || lpad(%(start)s::text, 8, '0')
  and process_id < 'counter-' || lpad(%(stop)s::text, 8, '0');

-- tasks: one that has ended, of each of these numbers, dealt out over the processes
insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, name, status, attempt, due_at, created_at,
  started_at, ended_at, version, first_event_id, events, args, response)
select nextval('pgprog_data.task_ids'), p.namespace, p.process_id, p.incarnation, 'call', 'count',
  'finished', 1, now(), now(), now(), now(), p.version, 1, 1, %(args)s, %(response)s
from generate_series(%(start)s, %(stop)s - 1) as n
join pgprog_data.processes as p
  on p.namespace = %(namespace)s
  and p.process_id = 'counter-' || lpad((n %% %(processes)s)::text, 8, '0');

-- timers: one of each of these numbers, of a later day
insert into pgprog_data.timers (
  incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p.incarnation, 'later ' || n, nextval('pgprog_data.task_ids'), p.namespace, p.process_id,
  'timeout', now() + interval '1 day' + n * interval '1 s', now()
from generate_series(%(start)s, %(stop)s - 1) as n
join pgprog_data.processes as p
  on p.namespace = %(namespace)s
  and p.process_id = 'counter-' || lpad((n %% %(processes)s)::text, 8, '0');
