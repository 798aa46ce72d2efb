/*
 * Put one request into the queue, inside the caller's transaction; return its task.
 *
 * Takes no lock on the process and always inserts a waiting task: an application's open transaction
 * holds up nobody.  What it saw of the process is only an expectation, which the claim verifies.
 * Repeating it under an idempotency key returns the same task.  Waits only for an open transaction
 * with the same key or the same new process_id.  A repair is noted for the audit, a repeat of it is not.
 *
 * Raises UP001, UP003 to UP010 and UP015, as the specification's table of operations says; 40001 in another isolation
 * than READ COMMITTED where the key or the process_id has changed hands since the snapshot: safe to repeat.
 */
create or replace function pgprog_engine._submit(
  type text, namespace text, process_id text, args jsonb, name text, idempotency_key text,
  context jsonb, priority integer, run_at timestamptz)
returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  v_roles text[];
  v_id_bytes integer;
  v_key_bytes integer;
  v_args_bytes integer;
  v_context_bytes integer;
  v_is_full boolean;
  v_fault text;
  v_task_id bigint;
  v_holder bigint;
  v_incarnation bigint;
  v_status text;
  v_code text;
  v_now timestamptz := pgprog_engine._now();
  -- What is asked for now has not been due since a run_at in the past.
  v_due_at timestamptz := greatest(_submit.run_at, v_now);
begin
  -- Whether it looks full is told as by _full_queues; its call would cost about 10 µs of 38, a statement more 2.
  select n.roles, n.id_bytes, n.key_bytes, n.args_bytes, n.context_bytes,
    s.tasks >= n.max_queue + (n.on_full = 'drop_lowest')::integer
  into v_roles, v_id_bytes, v_key_bytes, v_args_bytes, v_context_bytes, v_is_full
  from pgprog_data.namespaces as n
  left join pgprog_data.queue_sizes as s on s.namespace = n.namespace
  where n.namespace = _submit.namespace;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', _submit.namespace, null, null)
      using errcode = 'UP007', hint = 'start a worker that serves it, or check the name';
  end if;
  if v_roles is not null then
    perform pgprog_engine._require_role(_submit.namespace, v_roles);
  end if;
  v_fault := pgprog_engine._request_fault(
    _submit.process_id, _submit.name, _submit.idempotency_key, _submit.args, _submit.context,
    _submit.priority, _submit.run_at, v_id_bytes, v_key_bytes, v_args_bytes, v_context_bytes);
  if v_fault is not null then
    raise exception '%', v_fault using errcode = 'UP010';
  end if;

  v_task_id := nextval('pgprog_data.task_ids');
  if _submit.idempotency_key is not null then
    v_holder := pgprog_engine._take_key(
      _submit.namespace, _submit.idempotency_key, v_task_id,
      pgprog_engine._fingerprint(_submit.type, _submit.name, _submit.process_id, _submit.args),
      _submit.process_id);
    if v_holder <> v_task_id then
      return v_holder;
    end if;
  end if;
  if v_is_full and _submit.type <> 'repair' then
    v_fault := pgprog_engine._full_queues(array[_submit.namespace]) -> _submit.namespace ->> 0;
    if v_fault is not null then
      raise exception '%', pgprog_engine._refusal('UP009', _submit.namespace, _submit.process_id, v_fault)
        using errcode = 'UP009', hint = 'repeat it later, or raise max_queue of the namespace';
    end if;
  end if;

  if _submit.type = 'init' then
    v_incarnation := v_task_id;
    insert into pgprog_data.processes (
      namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at)
    values (
      _submit.namespace, _submit.process_id, v_task_id, 'init', v_now, nextval('pgprog_data.versions'), v_now, v_now)
    on conflict do nothing;
    v_code := case when not found then 'UP005' end;
    if current_setting('transaction_isolation') <> 'read committed' then
      perform pgprog_engine._require_single(array[_submit.namespace], array[_submit.process_id], null);
    end if;
  else
    -- A process whose init drew a later number than we did was not there when we came: init is first.
    select p.incarnation, p.status
    into v_incarnation, v_status
    from pgprog_data.processes as p
    where p.namespace = _submit.namespace
      and p.process_id = _submit.process_id
      and p.incarnation < v_task_id;
    v_code := pgprog_engine._refusal_code(_submit.type, v_status);
  end if;
  if v_code is not null then
    raise exception '%', pgprog_engine._refusal(v_code, _submit.namespace, _submit.process_id, v_status)
      using errcode = v_code;
  end if;

  insert into pgprog_data.queue (
    task_id, namespace, process_id, incarnation, type, name, status, priority,
    due_at, rank, created_at, key, args, context)
  values (
    v_task_id, _submit.namespace, _submit.process_id, v_incarnation, _submit.type, _submit.name,
    case when v_due_at > v_now then 'f' else 'w' end, _submit.priority,
    v_due_at, v_due_at - _submit.priority * interval '10 s', v_now,
    _submit.idempotency_key, _submit.args, _submit.context);
  if _submit.type = 'repair' then
    perform pgprog_engine._audit(
      'repair', _submit.namespace, _submit.process_id, v_task_id, jsonb_build_object('name', _submit.name), null);
  end if;
  return v_task_id;
end
$$;

comment on function pgprog_engine._submit(text, text, text, jsonb, text, text, jsonb, integer, timestamptz)
  is 'Put one request into the queue, inside the caller''s transaction; return its task';
