/*
 * Bind an idempotency key to a new task, or return the task that holds it.
 *
 * Returns task_id itself when the key was free.  Waits for an open transaction that holds the same
 * key; in REPEATABLE READ such a transaction ends this one with 40001, which is safe to repeat, and so does one that
 * has erased the key since the snapshot.
 * A key is free again when maintenance has deleted it, after key_ttl.
 *
 * Raises UP008: the key belongs to another operation, process or args.
 */
create or replace function pgprog_engine._take_key(
  namespace text, key text, task_id bigint, fingerprint bytea, process_id text)
returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  v_task_id bigint;
  v_fingerprint bytea;
begin
  loop
    insert into pgprog_data.keys (namespace, key, task_id, created_at, fingerprint)
    values (_take_key.namespace, _take_key.key, _take_key.task_id, pgprog_engine._clock(), _take_key.fingerprint)
    on conflict do nothing;
    if found then
      if current_setting('transaction_isolation') <> 'read committed' then
        perform pgprog_engine._require_single(array[_take_key.namespace], null, array[_take_key.key]);
      end if;
      return _take_key.task_id;
    end if;

    -- A later statement sees the winner, unless it was erased just now.
    select k.task_id, k.fingerprint
    into v_task_id, v_fingerprint
    from pgprog_data.keys as k
    where k.namespace = _take_key.namespace
      and k.key = _take_key.key;
    exit when found;
  end loop;
  -- One of 16 bytes is of a hash that was given up, see _fingerprint: such a key is taken at its word until it goes.
  if v_fingerprint <> _take_key.fingerprint and octet_length(v_fingerprint) <> 16 then
    raise exception '%', pgprog_engine._refusal('UP008', _take_key.namespace, _take_key.process_id, _take_key.key)
      using errcode = 'UP008', hint = 'use one key for one operation with the same process and args',
        detail = format('the key belongs to task %s', v_task_id);
  end if;
  return v_task_id;
end
$$;

comment on function pgprog_engine._take_key(text, text, bigint, bytea, text)
  is 'Bind an idempotency key to a new task, or return the task that holds it';
