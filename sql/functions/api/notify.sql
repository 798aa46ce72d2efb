/*
 * Tell a process something, without an answer; return the task.
 *
 * Safe inside the application's own transaction: rolled back with it, holds up nobody while it is
 * open.  Repeated with the same idempotency_key it returns the same task.
 * A run_at in the past is as none: it is due since it is asked for.
 * Retried by the policy of the namespace.
 *
 * Raises UP001: no such process.  UP004, UP006: it is in error, finished.  UP007: no such namespace.
 * UP008: the key belongs to another request.  UP010: a value out of its range.
 */
create or replace function pgprog.notify(
  namespace text, process_id text, args jsonb = null, name text = null, idempotency_key text = null,
  context jsonb = null, priority integer = 0, run_at timestamptz = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
begin
  return pgprog_engine._submit(
    'notify', namespace, process_id, args, name, idempotency_key, context, priority, run_at);
end
$$;

comment on function pgprog.notify(text, text, jsonb, text, text, jsonb, integer, timestamptz)
  is 'Tell a process something, without an answer; return the task';
