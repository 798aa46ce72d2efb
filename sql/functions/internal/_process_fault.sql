/*
 * Say what is wrong with a process that is to be imported, or null.
 *
 * process is what pgprog.get gives.  Its history must be whole: an incarnation's events are numbered
 * from 1 without gaps.  Raises data exceptions (class 22) where a value is not of its type.
 */
create or replace function pgprog_engine._process_fault(process jsonb, state_bytes integer, event_bytes integer)
returns text
language plpgsql stable
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  k_earliest constant timestamptz := '1970-01-01 00:00Z';
  k_latest constant timestamptz := '9999-01-01 00:00Z';
  v_head record;
  v_fault text;
begin
  if jsonb_typeof(process) is distinct from 'object' then
    return format('process is %s, an object is needed', coalesce(jsonb_typeof(process), 'null'));
  end if;
  select format('process has an unknown key %s', k.key) into v_fault
  from jsonb_object_keys(process) as k(key)
  where k.key <> all (array[
    'namespace', 'process_id', 'incarnation', 'status', 'previous_status', 'status_changed_at', 'detail', 'corrupted_by',
    'state', 'state_version', 'metadata', 'created_at', 'last_event_id', 'version', 'timers', 'history',
    'pgprog:fingerprint'])
  limit 1;
  if v_fault is not null then
    return v_fault;
  end if;
  select * into v_head
  from jsonb_to_record(process) as h(
    status text, previous_status text, status_changed_at timestamptz, corrupted_by bigint, state jsonb,
    state_version integer, created_at timestamptz, last_event_id bigint, timers jsonb, history jsonb);
  v_fault := case
    when v_head.status is null or v_head.status not in ('running', 'error', 'finished')
      then format('status is %s, running, error or finished is needed', coalesce(v_head.status, 'null'))
    when v_head.previous_status not in ('init', 'running', 'error', 'finished')
      then format('previous_status is %s, init, running, error or finished is needed', v_head.previous_status)
    when v_head.state_version < 1 then format('state_version is %s, 1 or more is needed', v_head.state_version)
    when pg_column_size(v_head.state) > state_bytes
      then format('state has %s bytes, at most %s are allowed', pg_column_size(v_head.state), state_bytes)
    when v_head.created_at not between k_earliest and k_latest
      then format('created_at is %s, a time from 1970 to 9998 is needed', v_head.created_at)
    when v_head.status_changed_at not between k_earliest and k_latest
      then format('status_changed_at is %s, a time from 1970 to 9998 is needed', v_head.status_changed_at)
    when jsonb_typeof(v_head.timers) <> 'object' then format('timers is %s, an object is needed', jsonb_typeof(v_head.timers))
    when v_head.status = 'finished' and v_head.timers <> '{}' then 'a finished process has timers'
    when jsonb_typeof(v_head.history) <> 'array' then format('history is %s, an array is needed', jsonb_typeof(v_head.history))
    when v_head.last_event_id <> coalesce(jsonb_array_length(v_head.history), 0)
      then format('last_event_id is %s, history has %s events; the whole history is needed',
        v_head.last_event_id, coalesce(jsonb_array_length(v_head.history), 0))
  end;
  if v_fault is not null then
    return v_fault;
  end if;

  select f.fault into v_fault
  from (
    select e.no, case
      when x.event_id is distinct from e.no then format('event %s of history has event_id %s', e.no, coalesce(x.event_id::text, 'null'))
      when x.at is null or x.at not between k_earliest and k_latest
        then format('event %s has at %s, a time from 1970 to 9998 is needed', e.no, coalesce(x.at::text, 'null'))
      when x.at < lag(x.at) over (order by e.no) then format('event %s is earlier than the one before it', e.no)
      when x.task_id is null then format('event %s has no task_id', e.no)
      when x.state_version < 1 then format('event %s has state_version %s, 1 or more is needed', e.no, x.state_version)
      when pg_column_size(x.payload) > event_bytes
        then format('event %s has %s bytes, at most %s are allowed', e.no, pg_column_size(x.payload), event_bytes)
    end as fault
    from jsonb_array_elements(coalesce(v_head.history, '[]')) with ordinality as e(value, no)
    cross join lateral jsonb_to_record(e.value) as x(event_id bigint, at timestamptz, task_id bigint, state_version integer, payload jsonb)
  ) as f
  where f.fault is not null
  order by f.no
  limit 1;
  if v_fault is not null then
    return v_fault;
  end if;

  select f.fault into v_fault
  from (
    select case
      when octet_length(t.name) > 256 then format('a timer''s name has %s bytes, at most 256 are allowed', octet_length(t.name))
      when t.at is null or t.at::timestamptz not between k_earliest and k_latest
        then format('timer %s is at %s, a time from 1970 to 9998 is needed', t.name, coalesce(t.at, 'null'))
    end as fault
    from jsonb_each_text(coalesce(v_head.timers, '{}')) as t(name, at)
  ) as f
  where f.fault is not null
  limit 1;
  return v_fault;
end
$$;

comment on function pgprog_engine._process_fault(jsonb, integer, integer)
  is 'What is wrong with a process that is to be imported, or null';
