-- What operators did.
-- Locks: none on existing objects; everything here is new.

-- One row for each action that had an effect, in its transaction: what was rolled back was not done.  No payloads.
-- login is session_user, role what that had set; client is null for a Unix socket.
-- Autovacuum: the server's own; insert-only, but for what is older than audit_retention.
create table pgprog_data.audit (
  audit_id bigint generated always as identity primary key,
  at timestamptz not null,
  action text not null,
  namespace text collate "C",
  process_id text collate "C",
  task_id bigint,
  login text not null,
  role text not null,
  application text,
  client inet,
  details jsonb,
  result jsonb
);
create index audit_by_namespace on pgprog_data.audit (namespace, audit_id);
create index audit_by_time on pgprog_data.audit (at);
