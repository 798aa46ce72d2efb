/*
 * Take the log level that a worker has, and return the one that it was asked for, null if none or obeyed.
 *
 * Comes with each renewal; writes only when something has changed.  Locks: the worker, only then; what it was asked for
 * (skip locked).
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
  select w.log_level, a.level into v_before, v_asked
  from pgprog_data.workers as w
  left join pgprog_data.asked_log_levels as a on a.worker_id = w.worker_id
  where w.worker_id = tell_log_level.worker_id;
  if v_before is distinct from tell_log_level.log_level then
    update pgprog_data.workers as w
    set log_level = tell_log_level.log_level
    where w.worker_id = tell_log_level.worker_id;
  end if;
  if v_asked is distinct from tell_log_level.log_level then
    return v_asked;
  end if;
  -- One that is asked again at this moment is told the next time.
  delete from pgprog_data.asked_log_levels as a
  where a.worker_id = any (array(
    select o.worker_id from pgprog_data.asked_log_levels as o
    where o.worker_id = tell_log_level.worker_id and o.level = tell_log_level.log_level
    for update skip locked));
  return null;
end
$$;

comment on function pgprog_engine.tell_log_level(bigint, text) is 'Take the log level that a worker has; return the one that it was asked for';
