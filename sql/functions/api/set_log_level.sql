/*
 * Ask one worker, or all that live, for another log level; return which, and the level of each before.
 *
 * A worker obeys with its next renewal, heartbeat_every later at most; the view pgprog.workers then has the
 * level as its log_level.  It lasts until the program ends or reads its configuration again.
 * Locks: what workers are asked for, in the order of their ids; no worker waits for that.  Raises UP010: no such level.
 */
create or replace function pgprog.set_log_level(level text, worker_id bigint = null)
returns table (worker bigint, name text, before text)
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  if set_log_level.level is null or set_log_level.level not in ('debug', 'info', 'warning', 'error') then
    raise exception 'level %, which is none of debug, info, warning, error', set_log_level.level using errcode = 'UP010';
  end if;
  delete from pgprog_data.asked_log_levels as a
  where not exists (select from pgprog_data.workers as w where w.worker_id = a.worker_id);
  return query
    with asked as (
      insert into pgprog_data.asked_log_levels as a (worker_id, level)
      select w.worker_id, set_log_level.level
      from pgprog_data.workers as w
      where (set_log_level.worker_id is null or w.worker_id = set_log_level.worker_id)
        and w.lease_until > pgprog_engine._clock()
      order by w.worker_id
      on conflict (worker_id) do update set level = excluded.level
      returning a.worker_id
    )
    select w.worker_id, w.name, w.log_level
    from asked
    join pgprog_data.workers as w on w.worker_id = asked.worker_id
    order by w.worker_id;
  if found then
    perform pgprog_engine._audit(
      'set_log_level', null, null, null,
      jsonb_build_object('level', set_log_level.level, 'worker_id', set_log_level.worker_id), 'true');
  end if;
end
$$;

comment on function pgprog.set_log_level(text, bigint) is 'Ask one worker, or all that live, for another log level; return the level of each before';
