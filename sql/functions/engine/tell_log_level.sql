/*
 * Take the log level that a worker has, and return the one that it was asked for, null if none or obeyed.
 *
 * Comes with each renewal; writes only when something has changed.  Locks: the worker, only then.
 */
create or replace function pgprog_engine.tell_log_level(worker_id bigint, log_level text)
returns text
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_before text;
  v_asked text;
begin
  select w.log_level, w.asked_log_level into v_before, v_asked
  from pgprog_data.workers as w
  where w.worker_id = tell_log_level.worker_id;
  if v_before is not distinct from tell_log_level.log_level and v_asked is distinct from tell_log_level.log_level then
    return v_asked;
  end if;
  update pgprog_data.workers as w
  set log_level = tell_log_level.log_level, asked_log_level = nullif(w.asked_log_level, tell_log_level.log_level)
  where w.worker_id = tell_log_level.worker_id
  returning w.asked_log_level into v_asked;
  return v_asked;
end
$$;

comment on function pgprog_engine.tell_log_level(bigint, text) is 'Take the log level that a worker has; return the one that it was asked for';
