/*
 * Have a process in error mended by its repair handler; return the task.
 *
 * Success makes the process running, clears what broke it and gives back its timers; a failing
 * repair changes nothing.  Of two repairs at once the second ends as cancelled, not in error.
 * Safe inside the application's own transaction, like call.
 *
 * Raises UP001: no such process.  UP003: it is not in error.  UP007: no such namespace.  UP008: the
 * key belongs to another request.  UP010: a value out of its range.
 */
create or replace function pgprog.repair(
  namespace text, process_id text, args jsonb = null, name text = null, idempotency_key text = null,
  context jsonb = null, priority integer = 0)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
begin
  return pgprog_engine._submit(
    'repair', namespace, process_id, args, name, idempotency_key, context, priority, null);
end
$$;

comment on function pgprog.repair(text, text, jsonb, text, text, jsonb, integer)
  is 'Have a process in error mended by its repair handler; return the task';
