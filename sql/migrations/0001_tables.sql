-- The tables of pgprog: hot (queue, timers), warm (processes), cold (events, tasks, attempts, keys).
-- Each says what autovacuum has to do there; the measured table is in docs/operations/manual.md, Sizing.  Without a
-- setting: the server's own, a fifth of the rows dead or new.
-- Locks: none on existing objects; everything here is new.

-- IF NOT EXISTS asks for CREATE on the database even where a DBA has made them.
do $$
begin
  if to_regnamespace('pgprog') is null then
    create schema pgprog;
  end if;
  if to_regnamespace('pgprog_data') is null then
    create schema pgprog_data;
  end if;
  if to_regnamespace('pgprog_engine') is null then
    create schema pgprog_engine;
  end if;
end
$$;

comment on schema pgprog is 'What applications and operators use: functions and views of long-lived processes';
comment on schema pgprog_data is 'Tables of pgprog; only its functions write them';
comment on schema pgprog_engine is 'Functions of workers';

-- One sequence for tasks and incarnations: the incarnation of a process is the id of its init task.
create sequence pgprog_data.task_ids cache 1;
create sequence pgprog_data.claim_ids cache 1;
create sequence pgprog_data.versions cache 1;
create sequence pgprog_data.worker_ids cache 1;

-- Settings that every claim needs are columns; all of them, as text of the configuration, are in settings.
-- Autovacuum: the server's own; rows change by hand.
create table pgprog_data.namespaces (
  namespace text collate "C" primary key check (octet_length(namespace) between 1 and 256),
  settings jsonb not null default '{}',
  settings_version bigint not null default 0,
  concurrency integer check (concurrency > 0),
  timer_patience interval not null default '60 s',
  max_crashes integer not null default 3 check (max_crashes > 0),
  args_bytes integer not null default 1048576 check (args_bytes > 0),
  context_bytes integer not null default 1048576 check (context_bytes > 0),
  max_queue bigint not null default 100000 check (max_queue > 0),
  on_full text not null default 'refuse' check (on_full in ('refuse', 'drop_lowest')),
  retention interval not null default '30 days',
  paused_at timestamptz,
  pause_reason text,
  created_at timestamptz not null
);

-- How many tasks a namespace holds that do not run, as they were counted some seconds ago at most; written when
-- it changes by a hundredth of max_queue.  Apart from namespaces, whose rows an operator's transaction may hold.
-- Autovacuum: the server's own; one row a namespace, whose updates are HOT.
create table pgprog_data.queue_sizes (
  namespace text collate "C" primary key,
  tasks bigint not null,
  measured_at timestamptz not null
) with (fillfactor = 50);

-- When something was measured last, and how long that took.
-- Autovacuum: the server's own; some rows, whose updates are HOT.
create table pgprog_data.measurements (
  name text primary key,
  measured_at timestamptz not null,
  took interval not null
) with (fillfactor = 50);

-- Every version of the settings; changed_by is the login that made it.
-- Autovacuum: the server's own; insert-only.
create table pgprog_data.namespace_settings (
  namespace text collate "C" not null,
  settings_version bigint not null,
  settings jsonb not null,
  changed_at timestamptz not null,
  changed_by text not null default session_user,
  reason text,
  primary key (namespace, settings_version)
);

-- One row for each incarnation of a worker process; the row is the lease.  state_versions: the newest version
-- of states that it reads in each of namespaces, 1 where it does not say.
-- Autovacuum: the server's own; an update each two seconds a worker, HOT in a table of a page.
create table pgprog_data.workers (
  worker_id bigint primary key,
  name text not null,
  namespaces text[] collate "C" not null,
  state_versions integer[] not null default '{}',
  renewals bigint not null default 0,
  lease_until timestamptz not null,
  started_at timestamptz not null,
  log_level text,
  asked_log_level text
) with (fillfactor = 50);

-- No index on a column that a step changes: updates of running processes stay HOT.  Half of each page is left
-- for that: its rows are made together, so one batch may well give all of them their first state.
-- Autovacuum: the server's own; one update a task, of which 96 to 99 in a hundred are HOT: the next visit to the
-- page takes the dead version away, and a vacuum would read the whole table for the rest.
create table pgprog_data.processes (
  namespace text collate "C" not null,
  process_id text collate "C" not null,
  incarnation bigint not null unique,
  status text not null check (status in ('init', 'running', 'error', 'finished')),
  previous_status text,
  status_changed_at timestamptz not null,
  version bigint not null,
  last_event_id bigint not null default 0,
  created_at timestamptz not null,
  changed_at timestamptz not null,
  state_version integer not null default 1,
  corrupted_by bigint,
  detail text,
  metadata jsonb,
  state jsonb,
  primary key (namespace, process_id)
) with (fillfactor = 50);

-- Processes in error and finished ones, for lists, repair campaigns and retention; written when a status
-- changes.  One in error keeps what simple_repair needs of the task that broke it: tasks are dropped by age.
-- Autovacuum: the server's own; a row comes with the end of a process and goes with its removal.  Where a fifth
-- of them is dead, a look at the oldest reads 109 pages, else 16.
create table pgprog_data.ended_processes (
  incarnation bigint primary key,
  namespace text collate "C" not null,
  status text not null check (status in ('error', 'finished')),
  at timestamptz not null,
  type text,
  name text,
  priority integer,
  args jsonb,
  context jsonb
);
create index ended_processes_by_time on pgprog_data.ended_processes (namespace, status, at);

-- Removed incarnations whose events are still to be deleted in the background.
-- Autovacuum: the server's own; as good as empty, where every fifty dead rows bring a vacuum.
create table pgprog_data.removals (
  incarnation bigint primary key,
  namespace text collate "C" not null,
  removed_at timestamptz not null
);
create index removals_by_namespace on pgprog_data.removals (namespace, removed_at);

-- state_version: that of the worker that wrote the event; its payload is upcast from there.
-- Autovacuum: the server's own; insert-only, but for the events of removed processes.
create table pgprog_data.events (
  incarnation bigint not null,
  event_id bigint not null check (event_id > 0),
  task_id bigint not null,
  at timestamptz not null,
  xid xid8 not null default pg_current_xact_id(),
  state_version integer not null default 1,
  announced boolean not null default false,
  payload jsonb not null,
  metadata jsonb,
  primary key (incarnation, event_id)
);

-- status: w waiting and due, f waits for its run_at, h waits for its retry and holds its place, b blocked
-- behind the running or held task of its process, r running.
-- needs_version: null, or a state version that its process has reached, set when a worker met the task that
-- does not read it; only workers that do look there.  It stays true: versions of an incarnation never fall.
create table pgprog_data.queue (
  task_id bigint primary key,
  namespace text collate "C" not null,
  process_id text collate "C" not null,
  incarnation bigint not null,
  type text not null check (type in ('init', 'call', 'notify', 'repair', 'timeout', 'remove')),
  name text,
  status "char" not null check (status in ('w', 'f', 'h', 'b', 'r')),
  begun boolean not null default false,
  priority integer not null default 0,
  attempt integer not null default 0,
  crashes integer not null default 0,
  due_at timestamptz not null,
  rank timestamptz not null,
  created_at timestamptz not null,
  started_at timestamptz,
  worker_id bigint,
  claim_id bigint,
  needs_version integer,
  key text collate "C",
  args jsonb,
  context jsonb,
  check ((status = 'r') = (claim_id is not null))
) with (
  fillfactor = 70,
  -- Every task leaves two to three dead versions behind: vacuum by count, not by share, and do not pause.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_analyze_scale_factor = 0,
  autovacuum_analyze_threshold = 20000,
  autovacuum_vacuum_cost_delay = 0
);
-- Every waiting row is due: the claim needs no filter on time and no bound on rank.
create index queue_ready on pgprog_data.queue (namespace, rank, task_id) where status = 'w' and needs_version is null;
create index queue_newer on pgprog_data.queue (namespace, needs_version, rank, task_id)
where status = 'w' and needs_version is not null;
create index queue_head on pgprog_data.queue (incarnation, task_id) where status in ('w', 'b', 'h');
create index queue_later on pgprog_data.queue (namespace, due_at) where status in ('f', 'h');
create index queue_future on pgprog_data.queue (incarnation, due_at) where status = 'f';
-- I1: at most one running task of a process; also finds it.
create unique index queue_running on pgprog_data.queue (incarnation) where status = 'r';

-- status: w waits for its time, b due but its process is busy, p due before the task was made that waits for its
-- retry there, and patient: overdue past timer_patience it goes before that one; s suspended with its process.
-- needs_version: as in queue; only timers that are due have one.
create table pgprog_data.timers (
  incarnation bigint not null,
  name text collate "C" not null,
  task_id bigint not null unique,
  namespace text collate "C" not null,
  process_id text collate "C" not null,
  type text not null check (type in ('timeout', 'remove')),
  status "char" not null default 'w' check (status in ('w', 'b', 'p', 's')),
  attempt integer not null default 0,
  crashes integer not null default 0,
  due_at timestamptz not null,
  created_at timestamptz not null,
  needs_version integer,
  context jsonb,
  primary key (incarnation, name)
) with (
  -- A fired timer is a dead row at the head of timers_due: vacuum by count, and by share only where millions are for later.
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0
);
create index timers_due on pgprog_data.timers (namespace, due_at) where status = 'w' and needs_version is null;
create index timers_newer on pgprog_data.timers (namespace, needs_version, due_at)
where status = 'w' and needs_version is not null;
create index timers_patient on pgprog_data.timers (namespace, due_at) where status = 'p';

-- Ended tasks with their answers; insert-only, one partition a week.
-- Autovacuum: the server's own, for each partition; dropped partitions leave nothing, and only the tasks of removed
-- processes are updated.
create table pgprog_data.tasks (
  task_id bigint not null,
  namespace text collate "C" not null,
  process_id text collate "C" not null,
  incarnation bigint not null,
  type text not null,
  name text,
  status text not null check (status in ('finished', 'error', 'cancelled')),
  priority integer not null default 0,
  attempt integer not null,
  crashes integer not null default 0,
  due_at timestamptz not null,
  created_at timestamptz not null,
  started_at timestamptz,
  ended_at timestamptz not null,
  worker_id bigint,
  claim_id bigint,
  version bigint,
  first_event_id bigint,
  events integer not null default 0,
  key text collate "C",
  args jsonb,
  context jsonb,
  response jsonb,
  error jsonb
) partition by range (ended_at);
create index tasks_by_id on pgprog_data.tasks (task_id);
create index tasks_by_process on pgprog_data.tasks (incarnation, task_id);

-- Attempts that did not end their task: 'retry' (told by its worker) or 'lost' (told by the collector).
-- Autovacuum: the server's own; insert-only, one partition a week.
create table pgprog_data.attempts (
  task_id bigint not null,
  claim_id bigint not null,
  attempt integer not null,
  worker_id bigint,
  outcome text not null check (outcome in ('retry', 'lost')),
  started_at timestamptz,
  ended_at timestamptz not null,
  retry_at timestamptz,
  error jsonb
) partition by range (ended_at);
create index attempts_by_task on pgprog_data.attempts (task_id, claim_id);

-- Autovacuum: the server's own; two rows a week.
create table pgprog_data.partitions (
  name text primary key,
  parent text not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null
);

-- The answer of a key is read from its task: an update of this row at each completion is hardly ever HOT.
-- Autovacuum: the server's own; a row goes key_ttl after it came.  Where a fifth of them is dead, a look at the
-- oldest reads 62 pages, else 3.
create table pgprog_data.keys (
  namespace text collate "C" not null,
  key text collate "C" not null,
  task_id bigint not null,
  created_at timestamptz not null,
  fingerprint bytea not null,
  primary key (namespace, key)
);
-- No BRIN: its ranges never shrink, and once the places of expired keys were used again each look for expired ones read the
-- whole table, 3 953 blocks of 3 956 for 2 here; this costs 65 bytes of WAL a key.
create index keys_by_time on pgprog_data.keys (created_at);

-- Facts of a process's life for sinks; written in the commit that makes them true, once sinks are configured.
-- Autovacuum: the server's own; insert-only.
create table pgprog_data.outbox (
  outbox_id bigint generated always as identity primary key,
  namespace text collate "C" not null,
  process_id text collate "C" not null,
  incarnation bigint not null,
  kind text not null,
  at timestamptz not null,
  xid xid8 not null default pg_current_xact_id(),
  payload jsonb
);

-- Repairs of many processes in error; what is asked of each stands in args and name, null for a simple repair.
-- Autovacuum: the server's own; a row and some updates a campaign.
create table pgprog_data.campaigns (
  campaign_id bigint generated always as identity primary key,
  namespace text collate "C" not null,
  kind text not null check (kind in ('repair', 'simple_repair')),
  name text,
  args jsonb,
  priority integer not null,
  filter jsonb not null,
  items bigint not null default 0,
  began_at timestamptz not null,
  began_by text not null default session_user,
  reason text,
  ended_at timestamptz
);

-- The processes of a campaign, as they were broken when it began; task_id is what it asked of one.
-- Autovacuum: the server's own; two updates of each item, and no row is deleted.
create table pgprog_data.campaign_items (
  campaign_id bigint not null references pgprog_data.campaigns,
  incarnation bigint not null,
  process_id text collate "C" not null,
  corrupted_by bigint,
  task_id bigint,
  asked_at timestamptz,
  outcome text check (outcome in ('repaired', 'failed', 'skipped')),
  detail text,
  primary key (campaign_id, incarnation)
) with (fillfactor = 70);
create index campaign_items_to_do on pgprog_data.campaign_items (campaign_id, incarnation)
where asked_at is null and outcome is null;
create index campaign_items_open on pgprog_data.campaign_items (campaign_id, incarnation)
where asked_at is not null and outcome is null;
