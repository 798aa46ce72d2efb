-- A database in the middle of its day: 50 namespaces, 2 000 running tasks with 50 blocked ones behind
-- each, 20 000 ready, 100 000 for later, 100 000 timers for later and 200 due, 100 000 ended tasks.
-- The rows are what the functions write; made here at once, since a million calls take too long.

alter table pgprog_data.queue set (autovacuum_enabled = false);
alter table pgprog_data.timers set (autovacuum_enabled = false);
alter table pgprog_data.processes set (autovacuum_enabled = false);

insert into pgprog_data.namespaces (namespace, created_at) select 'n' || n, now() from generate_series(0, 49) as n;
insert into pgprog_data.workers (worker_id, name, namespaces, lease_until, started_at)
select w, 'w', array(select 'n' || n from generate_series(0, 49) as n), now() + interval '1 year', now()
from generate_series(1, 2) as w;

insert into pgprog_data.processes (
  namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at, state)
select 'n' || p % 50, 'p' || p, p, 'running', now(), p, now(), now(), '{"paid": "10.00"}'
from generate_series(1, 42000) as p;

-- Busy: p1 to p2000, half of them with the first worker.
insert into pgprog_data.queue (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, rank, created_at, started_at,
  worker_id, claim_id)
select
  100000 + p, 'n' || p % 50, 'p' || p, p, 'call', 'r', 1, now(), now(), now(), now(), 1 + p % 2, p
from generate_series(1, 2000) as p;
insert into pgprog_data.queue (task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
select 200000 + p * 50 + i, 'n' || p % 50, 'p' || p, p, 'call', 'b', now(), now(), now()
from generate_series(1, 2000) as p, generate_series(0, 49) as i;

-- Ready: p2001 to p22000.
insert into pgprog_data.queue (task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
select 400000 + p, 'n' || p % 50, 'p' || p, p, 'call', 'w', t, t, t
from generate_series(2001, 22000) as p, lateral (select now() - p * interval '1 ms' as t) as x;

-- Later: p22001 to p42000, five tasks and five timers each; the timers of the first 200 are due.
insert into pgprog_data.queue (task_id, namespace, process_id, incarnation, type, status, due_at, rank, created_at)
select 500000 + p * 5 + i, 'n' || p % 50, 'p' || p, p, 'call', 'f', t, t, now()
from generate_series(22001, 42000) as p, generate_series(0, 4) as i,
  lateral (select now() + p * interval '1 min' as t) as x;
insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
select p, 't' || i, 900000 + p * 5 + i, 'n' || p % 50, 'p' || p, 'timeout',
  case when p <= 22200 and i = 0 then now() else now() + p * interval '1 min' end, now()
from generate_series(22001, 42000) as p, generate_series(0, 4) as i;

insert into pgprog_data.tasks (
  task_id, namespace, process_id, incarnation, type, status, attempt, due_at, created_at, started_at, ended_at, response)
select 2000000 + n, 'n' || n % 50, 'p' || n % 42000, n % 42000, 'call', 'finished', 1, now(), now(), now(), now(), '1'
from generate_series(1, 100000) as n;
-- Histories: a thousand events of each of p30001 to p30100; keys of half of the ended tasks.
insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
select p, e, e, now(), '{"paid": "10.00"}' from generate_series(30001, 30100) as p, generate_series(1, 1000) as e;
insert into pgprog_data.keys
select 'n' || n % 50, 'old' || n, 2000000 + n, now(), '' from generate_series(1, 50000) as n;
select setval('pgprog_data.task_ids', 3000000), setval('pgprog_data.claim_ids', 3000000), setval('pgprog_data.versions', 3000000);
