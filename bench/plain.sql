-- The plain design: a queue row is marked running and deleted at the end, an insert-only log keeps
-- the answer.  No leases, chains, timers, namespaces, versions; the worker in the queue row is the
-- only fence.  What a batch costs without the guards of pgprog.
create schema plain;
create sequence plain.task_ids;
create table plain.processes (
  process_id text primary key, last_event_id bigint not null default 0, state jsonb
) with (fillfactor = 70);
create table plain.queue (
  task_id bigint primary key, process_id text not null, status smallint not null default 0,
  worker_id bigint, args jsonb
) with (fillfactor = 70);
create index queue_ready on plain.queue (task_id) where status = 0;
create unique index queue_running on plain.queue (process_id) where status = 1;
create table plain.events (
  process_id text, event_id bigint, task_id bigint not null, payload jsonb, primary key (process_id, event_id)
);
create table plain.tasks (task_id bigint primary key, process_id text not null, args jsonb, response jsonb);

create function plain.claim(worker_id bigint, max_tasks integer)
returns table (task_id bigint, process_id text, args jsonb, state jsonb)
language sql
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  with started as (
    update plain.queue as q
    set status = 1, worker_id = claim.worker_id
    where q.task_id = any (array(
      select r.task_id from plain.queue as r
      where r.status = 0
      order by r.task_id limit claim.max_tasks
      for update skip locked))
    returning q.task_id, q.process_id, q.args
  )
  select s.task_id, s.process_id, s.args, p.state
  from started as s
  join plain.processes as p on p.process_id = s.process_id
$$;

create function plain.complete(worker_id bigint, task_ids bigint[], states jsonb[], responses jsonb[], events jsonb[])
returns bigint
language sql
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
  with given as (
    select * from unnest(complete.task_ids, complete.states, complete.responses, complete.events)
      as g(task_id, state, response, event)
  ),
  fenced as (
    delete from plain.queue as q
    using given as g
    where q.task_id = g.task_id and q.worker_id = complete.worker_id
    returning q.task_id, q.process_id, q.args, g.state, g.response, g.event
  ),
  changed as (
    update plain.processes as p
    set last_event_id = p.last_event_id + 1, state = f.state
    from fenced as f
    where p.process_id = f.process_id
    returning p.process_id, p.last_event_id, f.task_id, f.event
  ),
  appended as (
    insert into plain.events
    select c.process_id, c.last_event_id, c.task_id, c.event from changed as c
  ),
  ended as (
    insert into plain.tasks
    select f.task_id, f.process_id, f.args, f.response from fenced as f
    returning 1
  )
  select count(*) from ended
$$;
