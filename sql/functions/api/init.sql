/*
 * Create a process and put its init task into the queue; return the task.
 *
 * Safe inside the application's own transaction: rolled back with it, holds up nobody while it is
 * open.  Repeated with the same idempotency_key it returns the same task.
 * The process is visible at once with status init; its first step runs when this transaction has
 * committed and a worker serves the namespace.  With run_at in the future calls wait behind it.
 *
 * Raises UP005: the process exists.  UP007: no such namespace.  UP008: the key belongs to another
 * request.  UP010: a value out of its range.  40001: in isolation above READ COMMITTED, somebody has made or removed
 * the process, or taken the key, since the snapshot; repeat the transaction.
 */
create or replace function pgprog.init(
  namespace text, process_id text, args jsonb = null, name text = null, idempotency_key text = null,
  context jsonb = null, priority integer = 0, run_at timestamptz = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
begin
  return pgprog_engine._submit(
    'init', namespace, process_id, args, name, idempotency_key, context, priority, run_at);
end
$$;

comment on function pgprog.init(text, text, jsonb, text, text, jsonb, integer, timestamptz)
  is 'Create a process and put its init task into the queue; return the task';
