-- What operators read: no payloads here; pgprog.process_payloads and pgprog.event_payloads have them.

create or replace view pgprog.namespaces as
select
  n.namespace, n.settings, n.settings_version, n.paused_at, n.pause_reason, n.created_at,
  -- Who gave the reason: the login of the last pause.  Nobody where an error of a handler did.
  case when n.paused_at is not null then (
    select a.login
    from pgprog_data.audit as a
    where a.namespace = n.namespace and a.action = 'pause' and a.at >= n.paused_at
    order by a.at desc, a.audit_id desc
    limit 1) end as paused_by
from pgprog_data.namespaces as n;
comment on view pgprog.namespaces is 'Kinds of process with the settings that all workers obey';

create or replace view pgprog.settings_history as
select s.namespace, s.settings_version, s.settings, s.changed_at, s.changed_by, s.reason, s.restores
from pgprog_data.namespace_settings as s;
comment on view pgprog.settings_history is 'Every version that the settings of a namespace have had, who made it, and the version that it restores';

create or replace view pgprog.processes as
select
  p.namespace, p.process_id, p.incarnation, p.status, p.previous_status, p.status_changed_at, p.detail, p.corrupted_by,
  p.state_version, p.created_at, p.changed_at, p.last_event_id, p.version, p.xmin::text::bigint as xid
from pgprog_data.processes as p;
comment on view pgprog.processes is 'Durable state machines, without their payloads; xid: what wrote them last, its 32 bits';

create or replace view pgprog.process_payloads as
select p.namespace, p.process_id, p.incarnation, p.state, p.metadata
from pgprog_data.processes as p;
comment on view pgprog.process_payloads is 'State and metadata of processes';

create or replace view pgprog.event_payloads as
select p.namespace, p.process_id, e.incarnation, e.event_id, e.at, e.task_id, e.payload, e.metadata
from pgprog_data.events as e
join pgprog_data.processes as p on p.incarnation = e.incarnation;
comment on view pgprog.event_payloads is 'Events of processes with their payloads';

create or replace view pgprog.tasks as
select
  q.task_id, q.namespace, q.process_id, q.incarnation, q.type, q.name, pgprog_engine._status_of(q.status) as status,
  q.priority, q.attempt, q.due_at as scheduled_at, q.created_at, q.started_at, null::timestamptz as ended_at,
  q.worker_id, q.key as idempotency_key, null::text as error_type, null::text as cause
from pgprog_data.queue as q
union all
select
  t.task_id, t.namespace, t.process_id, t.incarnation, t.type, t.name, pgprog_engine._status_of(t.status),
  0, t.attempt, t.due_at, t.created_at, null, null, null, null, null, null
from pgprog_data.timers as t
union all
select
  t.task_id, t.namespace, t.process_id, t.incarnation, t.type, t.name, t.status,
  t.priority, t.attempt, t.due_at, t.created_at, t.started_at, t.ended_at,
  t.worker_id, t.key, t.error ->> 'error_type', t.error ->> 'cause'
from pgprog_data.tasks as t;
comment on view pgprog.tasks is 'Tasks that are open, timers, and ended tasks within task_retention, without their payloads';

create or replace view pgprog.timers as
select t.namespace, t.process_id, t.incarnation, t.name, t.type, t.task_id, t.due_at, t.attempt, t.status = 's' as suspended
from pgprog_data.timers as t;
comment on view pgprog.timers is 'Pending timers of processes';

create or replace view pgprog.workers as
select w.worker_id, w.name, w.namespaces, w.started_at, w.lease_until, w.renewals, w.log_level, a.level as asked_log_level
from pgprog_data.workers as w
left join pgprog_data.asked_log_levels as a on a.worker_id = w.worker_id;
comment on view pgprog.workers is 'Worker incarnations and their leases';

create or replace view pgprog.audit as
select
  a.audit_id, a.at, a.action, a.namespace, a.process_id, a.task_id, a.login, a.role, a.application, a.client,
  a.details, a.result
from pgprog_data.audit as a;
comment on view pgprog.audit is 'What operators did: who, when, from where, and what came of it; without payloads';

create or replace view pgprog.campaigns as
select
  c.campaign_id, c.namespace, c.kind, c.name, c.filter, c.items, c.began_at, c.began_by, c.reason, c.ended_at
from pgprog_data.campaigns as c;
comment on view pgprog.campaigns is 'Repairs of many processes: who began them, when, why, and by which filter';

create or replace view pgprog.campaign_results as
select
  i.campaign_id, i.process_id, i.incarnation, i.corrupted_by, i.task_id, i.asked_at,
  coalesce(i.outcome, case when i.asked_at is null then 'to do' else 'open' end) as outcome, i.detail
from pgprog_data.campaign_items as i;
comment on view pgprog.campaign_results is 'What became of each process of a campaign, as it was noted last';
