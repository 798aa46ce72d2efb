-- What it takes to see that tasks fail since a change of settings, and to take that back.
-- Locks: namespaces, namespace_settings, attempts, ACCESS EXCLUSIVE for a moment; tasks and attempts, SHARE while
-- their indexes are built: no task ends for the time that reading them takes.

-- rollback_above null: never.
alter table pgprog_data.namespaces
  add column rollback_above double precision check (rollback_above between 0 and 1),
  add column rollback_within interval not null default '10 min';
create index namespaces_that_roll_back on pgprog_data.namespaces (namespace) where rollback_above is not null;

-- The earlier version whose settings a rollback gave back, by whomever.
alter table pgprog_data.namespace_settings add column restores bigint;

alter table pgprog_data.attempts add column namespace text collate "C";
create index attempts_by_namespace on pgprog_data.attempts (namespace, ended_at);
create index tasks_in_error on pgprog_data.tasks (namespace, ended_at) where status = 'error';
-- Counted by this index are those that finished, of a few minutes: any other would cost each completion more.
create index tasks_by_time on pgprog_data.tasks using brin (ended_at) with (autosummarize = on);
