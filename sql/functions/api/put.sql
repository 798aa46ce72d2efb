/*
 * Import a process as pgprog.get gives it, with its whole history and timers; return its version.
 *
 * No handler runs and nothing is announced.  The process gets an incarnation and a version of its
 * own; what it says of them is ignored.  Its timers run as timeouts, those in the past at once; of a
 * process in error they are suspended.  A process in init cannot be imported: its init task is not in it.
 * Repeated with the same idempotency_key it returns the same version.  Waits only for an open
 * transaction with the same key or the same new process_id.
 *
 * Raises UP005: the process exists.  UP007: no such namespace.  UP008: the key belongs to another
 * request.  UP010: a value is missing, unknown, of another type or out of its range.  40001: as init.
 */
create or replace function pgprog.put(process jsonb, idempotency_key text = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  v_namespace text := put.process ->> 'namespace';
  v_process_id text := put.process ->> 'process_id';
  v_settings jsonb;
  v_fault text;
  v_incarnation bigint := nextval('pgprog_data.task_ids');
  v_version bigint := nextval('pgprog_data.versions');
  v_holder bigint;
  v_at timestamptz := pgprog_engine._clock();
  v_status text := put.process ->> 'status';
begin
  perform pgprog_engine._require_request(v_namespace, v_process_id, put.idempotency_key);
  select n.settings into v_settings from pgprog_data.namespaces as n where n.namespace = v_namespace;
  begin
    v_fault := pgprog_engine._process_fault(
      put.process, coalesce((v_settings #>> '{limits,state_bytes}')::integer, 4194304),
      coalesce((v_settings #>> '{limits,event_bytes}')::integer, 262144));
  exception when data_exception then
    v_fault := sqlerrm;
  end;
  if v_fault is not null then
    raise exception 'process % in namespace % cannot be imported: %', v_process_id, v_namespace, v_fault
      using errcode = 'UP010';
  end if;

  if put.idempotency_key is not null then
    -- The answer is a version, and the key keeps it in the place of a task.
    v_holder := pgprog_engine._take_key(
      v_namespace, put.idempotency_key, v_version,
      pgprog_engine._fingerprint('put', null, v_process_id, put.process), v_process_id);
    if v_holder <> v_version then
      return v_holder;
    end if;
  end if;
  -- Drawn anew: while we waited for the key, or looked at a long history, the process may have lived here and gone, with
  -- versions that were later.
  v_version := nextval('pgprog_data.versions');
  update pgprog_data.keys as k
  set task_id = v_version
  where k.namespace = v_namespace
    and k.key = put.idempotency_key;

  insert into pgprog_data.processes (
    namespace, process_id, incarnation, status, previous_status, status_changed_at, version, last_event_id, created_at,
    changed_at, state_version, corrupted_by, detail, metadata, state)
  select
    v_namespace, v_process_id, v_incarnation, h.status, h.previous_status, coalesce(h.status_changed_at, v_at), v_version,
    coalesce(jsonb_array_length(h.history), 0), coalesce(h.created_at, v_at),
    greatest(v_at, (h.history -> -1 ->> 'at')::timestamptz), coalesce(h.state_version, 1), h.corrupted_by, h.detail, h.metadata, h.state
  from jsonb_to_record(put.process) as h(
    status text, previous_status text, status_changed_at timestamptz, created_at timestamptz, state_version integer,
    corrupted_by bigint, detail text, metadata jsonb, state jsonb, history jsonb)
  on conflict do nothing;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP005', v_namespace, v_process_id, null) using errcode = 'UP005';
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    perform pgprog_engine._require_single(array[v_namespace], array[v_process_id], null);
  end if;
  insert into pgprog_data.events (incarnation, event_id, task_id, at, state_version, announced, payload, metadata)
  select v_incarnation, e.event_id, e.task_id, e.at, coalesce(e.state_version, 1), true, coalesce(e.payload, 'null'), e.metadata
  from jsonb_to_recordset(coalesce(nullif(put.process -> 'history', 'null'), '[]'))
    as e(event_id bigint, at timestamptz, task_id bigint, state_version integer, payload jsonb, metadata jsonb);
  insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, status, due_at, created_at)
  select
    v_incarnation, t.name, nextval('pgprog_data.task_ids'), v_namespace, v_process_id, 'timeout',
    case when v_status = 'error' then 's' else 'w' end, t.at::timestamptz, v_at
  from jsonb_each_text(coalesce(nullif(put.process -> 'timers', 'null'), '{}')) as t(name, at);
  insert into pgprog_data.ended_processes (incarnation, namespace, status, at)
  select v_incarnation, v_namespace, v_status, v_at
  where v_status in ('error', 'finished');
  perform pgprog_engine._audit(
    'put', v_namespace, v_process_id, null, jsonb_build_object('status', v_status), to_jsonb(v_version));
  return v_version;
end
$$;

comment on function pgprog.put(jsonb, text) is 'Import a process as pgprog.get gives it, with its whole history and timers; return its version';
