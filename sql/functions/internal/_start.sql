/*
 * Take many requests in one statement batch; each has its own outcome and none raises for others.
 *
 * outcome: 'started' (claimed for worker_id, with all a step needs), 'queued', 'known' (the key
 * belongs to task_id already), or the SQLSTATE of a refusal with its message.
 * At most max_starts are started, and only where the process has nothing waiting, blocked, held or running, nothing
 * stands against it and the worker serves its namespace and reads its state; an expected race makes it 'queued'.
 *
 * Duplicates of a key are removed and keys and processes are inserted in their order, so that two
 * batches do not deadlock.  Waits for open transactions with the same key or new process_id: the
 * caller sets lock_timeout and gives the items one by one after 55P03.
 * Raises UP010: a type is none of init, call, notify, repair; UP002: the lease of the worker is lost; 40001 as _submit.
 * Locks: worker (key share), starts of the namespaces (shared, never waiting), process rows (no key update, skip locked).
 */
create or replace function pgprog_engine._start(
  worker_id bigint, max_starts integer, types text[], namespaces text[], process_ids text[], argss jsonb[], names text[],
  idempotency_keys text[], contexts jsonb[], priorities integer[], run_ats timestamptz[],
  out pos integer, out outcome text, out message text, out task_id bigint, out claim_id bigint, out incarnation bigint,
  out created_at timestamptz, out status text, out state_version integer, out state jsonb, out metadata jsonb,
  out last_event_id bigint, out version bigint)
returns setof record
language plpgsql
as $$
#variable_conflict use_column
declare
  v_count integer := coalesce(cardinality(_start.types), 0);
  v_served text[] := '{}';
  v_reads integer[];
  v_startable text[];
  v_patience interval[];
  v_now timestamptz := pgprog_engine._now();
  v_at timestamptz;
  v_ids bigint[];
  v_winners bigint[];
  v_fingerprints bytea[];
  v_codes text[];
  v_messages text[];
  v_incarnations bigint[] := array_fill(null::bigint, array[v_count]);
  v_full jsonb;
  v_erased boolean;
  v_inits boolean := 'init' = any (_start.types);
  v_may_repair boolean := 'repair' <> all (_start.types) or pgprog_engine._may_repair();
  v_locked integer[];
  v_free integer[];
  v_claims bigint[] := array_fill(null::bigint, array[v_count]);
  v_row record;
  v_pos integer;
begin
  if not coalesce(_start.types <@ array['init', 'call', 'notify', 'repair'], false) then
    raise exception 'a request is none of init, call, notify, repair' using errcode = 'UP010';
  end if;
  if _start.worker_id is not null then
    if current_setting('transaction_isolation') <> 'read committed' then
      perform pgprog_engine._require_read_committed();
    end if;
    select w.namespaces, w.state_versions into v_served, v_reads
    from pgprog_data.workers as w
    where w.worker_id = _start.worker_id
      and w.lease_until > pgprog_engine._clock()
    for key share;
    if not found then
      raise exception 'the lease of worker % is lost', _start.worker_id using errcode = 'UP002';
    end if;
  end if;

  -- 1. Values, each item by itself.
  select
    array_agg(nextval('pgprog_data.task_ids') order by x.pos),
    array_agg(
      case
        when n.namespace is null then 'UP007'
        when f.closed or f.mends and not v_may_repair then 'UP015'
        when f.fault is not null then 'UP010'
      end
      order by x.pos),
    array_agg(
      case
        when f.closed then 'role ' || pgprog_engine._caller()
        when f.mends and not v_may_repair then 'repairs by role ' || pgprog_engine._caller()
        else f.fault
      end
      order by x.pos)
  into v_ids, v_codes, v_messages
  from unnest(_start.namespaces) with ordinality as x(namespace, pos)
  left join pgprog_data.namespaces as n on n.namespace = x.namespace
  left join lateral (
    select n.roles is not null and not pgprog_engine._may_use(n.roles) as closed, _start.types[x.pos] = 'repair' as mends,
      pgprog_engine._request_fault(
        _start.process_ids[x.pos], _start.names[x.pos], _start.idempotency_keys[x.pos], _start.argss[x.pos],
        _start.contexts[x.pos], _start.priorities[x.pos], _start.run_ats[x.pos], n.id_bytes, n.key_bytes, n.args_bytes,
        n.context_bytes) as fault
  ) as f on n.namespace is not null;
  v_winners := v_ids;

  -- 2. Keys; the winners are read in a second statement.
  if array_length(array_remove(_start.idempotency_keys, null), 1) > 0 then
    select array_agg(
      case when x.key is not null then pgprog_engine._fingerprint(
        _start.types[x.pos], _start.names[x.pos], _start.process_ids[x.pos], _start.argss[x.pos]) end
      order by x.pos)
    into v_fingerprints
    from unnest(_start.idempotency_keys) with ordinality as x(key, pos);
    loop
      insert into pgprog_data.keys (namespace, key, task_id, created_at, fingerprint)
      select distinct on (x.namespace, x.key)
        x.namespace, x.key, v_ids[x.pos], v_now, v_fingerprints[x.pos]
      from unnest(_start.namespaces, _start.idempotency_keys) with ordinality as x(namespace, key, pos)
      where x.key is not null
        and v_codes[x.pos] is null
      order by x.namespace, x.key, x.pos
      on conflict do nothing;
      select
        array_agg(case when x.same then x.task_id else v_ids[x.pos] end order by x.pos),
        array_agg(case when x.same is false then 'UP008' else v_codes[x.pos] end order by x.pos),
        array_agg(case when x.same is false then x.key else v_messages[x.pos] end order by x.pos),
        bool_or(x.key is not null and x.task_id is null and v_codes[x.pos] is null)
      into v_winners, v_codes, v_messages, v_erased
      from (
        select x.pos, x.key, k.task_id,
          -- As in _take_key.
          k.fingerprint = v_fingerprints[x.pos] or octet_length(k.fingerprint) = 16 as same
        from unnest(_start.namespaces, _start.idempotency_keys) with ordinality as x(namespace, key, pos)
        left join pgprog_data.keys as k
          on k.namespace = any (array[x.namespace]) and k.key = x.key and v_codes[x.pos] is null
      ) as x;
      -- A winner may have been erased just now: its key is free again.
      exit when not v_erased;
    end loop;
    if current_setting('transaction_isolation') <> 'read committed' then
      perform pgprog_engine._require_single(_start.namespaces, null, _start.idempotency_keys);
    end if;
  end if;

  -- A full queue takes no more; what came before under the same key is known all the same.
  -- Whether any is full is told as by _full_queues, whose call would cost about 15 µs of the 250 of a lone request.
  perform 1
  from pgprog_data.queue_sizes as s
  join pgprog_data.namespaces as n on n.namespace = s.namespace
  where s.namespace = any (_start.namespaces)
    and s.tasks >= n.max_queue + (n.on_full = 'drop_lowest')::integer;
  if found then
    v_full := pgprog_engine._full_queues(_start.namespaces);
    for v_row in
      select x.pos, v_full -> x.namespace ->> 0 as fault
      from unnest(_start.namespaces, _start.types) with ordinality as x(namespace, type, pos)
      where v_full ? x.namespace
        and x.type <> 'repair'
        and v_codes[x.pos] is null
        and v_winners[x.pos] = v_ids[x.pos]
    loop
      v_codes[v_row.pos] := 'UP009';
      v_messages[v_row.pos] := v_row.fault;
    end loop;
  end if;

  -- 3. New processes, in the order of their ids.
  if v_inits then
    insert into pgprog_data.processes (
      namespace, process_id, incarnation, status, status_changed_at, version, created_at, changed_at)
    select distinct on (x.namespace, x.process_id)
      x.namespace, x.process_id, v_ids[x.pos], 'init', v_now, nextval('pgprog_data.versions'), v_now, v_now
    from unnest(_start.namespaces, _start.process_ids, _start.types) with ordinality as x(namespace, process_id, type, pos)
    where x.type = 'init'
      and v_codes[x.pos] is null
      and v_winners[x.pos] = v_ids[x.pos]
    order by x.namespace, x.process_id, x.pos
    on conflict do nothing;
    if current_setting('transaction_isolation') <> 'read committed' then
      perform pgprog_engine._require_single(_start.namespaces, _start.process_ids, null);
    end if;
  end if;

  -- 4. What stands against each; a later statement, which sees the new processes: one is ours by its number.
  -- One whose init drew a later number than the request was not there when it came: init is first.
  for v_row in
    select x.pos, p.incarnation, p.status, x.type
    from unnest(_start.namespaces, _start.process_ids, _start.types) with ordinality as x(namespace, process_id, type, pos)
    left join pgprog_data.processes as p
      on p.namespace = any (array[x.namespace]) and p.process_id = x.process_id and p.incarnation <= v_ids[x.pos]
    where v_codes[x.pos] is null
      and v_winners[x.pos] = v_ids[x.pos]
  loop
    if v_row.type <> 'init' then
      v_codes[v_row.pos] := pgprog_engine._refusal_code(v_row.type, v_row.status);
      v_messages[v_row.pos] := v_row.status;
    elsif v_row.incarnation is distinct from v_ids[v_row.pos] then
      v_codes[v_row.pos] := 'UP005';
      continue;
    end if;
    v_incarnations[v_row.pos] := v_row.incarnation;
  end loop;
  -- A refused request keeps no key, and what shares its key in this batch, behind it, is refused with it.  Winners
  -- are not joined to ids: without a hash that takes a thousand requests squared, 55 µs for each of them.
  if cardinality(array_remove(v_codes, null)) > 0 then
    for v_row in
      select x.pos, x.winner
      from (
        select x.pos, min(x.pos) over (partition by x.task_id) as winner
        from unnest(v_winners) with ordinality as x(task_id, pos)
      ) as x
      where v_codes[x.winner] is not null
        and _start.idempotency_keys[x.pos] is not null
    loop
      v_codes[v_row.pos] := v_codes[v_row.winner];
      v_messages[v_row.pos] := v_messages[v_row.winner];
      delete from pgprog_data.keys as k
      where k.namespace = _start.namespaces[v_row.pos]
        and k.key = _start.idempotency_keys[v_row.pos]
        and k.task_id = v_ids[v_row.winner];
    end loop;
  end if;

  -- 5. Processes that may be free are locked, the others are only queued.
  if _start.max_starts > 0 and _start.namespaces && v_served then
    select array_agg(n.namespace) into v_startable
    from pgprog_data.namespaces as n
    where n.namespace = any (_start.namespaces) and array_position(v_served, n.namespace) is not null
      and n.paused_at is null and n.concurrency is null;
    -- After the waits for keys and processes: an open transaction that pauses may hold these, too.
    v_startable := pgprog_engine._open_namespaces(v_startable);
    -- A later statement: one that was paused just before is open no more.
    select array_agg(n.namespace), array_agg(n.timer_patience) into v_startable, v_patience
    from pgprog_data.namespaces as n
    where n.namespace = any (v_startable) and n.paused_at is null;
    -- What a locked row says holds until we end.
    select array_agg(l.pos) into v_locked
    from (
      select x.pos::integer, p.namespace, p.status, p.state_version
      from unnest(v_incarnations) with ordinality as x(incarnation, pos)
      join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
      where v_codes[x.pos] is null
        and v_winners[x.pos] = v_ids[x.pos]
        and _start.namespaces[x.pos] = any (v_startable)
        and (_start.run_ats[x.pos] is null or _start.run_ats[x.pos] <= v_now)
      order by x.incarnation, x.pos
      for no key update of p skip locked
    ) as l
    where l.state_version <= pgprog_engine._version_read(l.namespace, v_served, v_reads)
      and l.status = case _start.types[l.pos] when 'init' then 'init' when 'repair' then 'error' else 'running' end;
  end if;
  v_at := pgprog_engine._clock();
  if v_locked is not null then
    -- A later statement: the first request of each process of which nothing waits or runs, no task
    -- has come due and no timer is overdue past patience.
    select array_agg(f.pos) into v_free
    from (
      select distinct on (v_incarnations[l.pos]) l.pos
      from unnest(v_locked) as l(pos)
      left join lateral (
        select f.task_id from pgprog_data.queue as f
        where f.incarnation = v_incarnations[l.pos] and f.status = 'f' and f.due_at <= v_now limit 1
      ) as f on true
      left join lateral (
        select t.task_id from pgprog_data.timers as t
        where t.incarnation = v_incarnations[l.pos] and t.status <> 's'
          and t.due_at <= v_now - v_patience[array_position(v_startable, _start.namespaces[l.pos])] limit 1
      ) as t on true
      left join lateral (
        select q.task_id from pgprog_data.queue as q
        where q.incarnation = v_incarnations[l.pos] and q.status in ('w', 'b', 'h') limit 1
      ) as h on true
      left join lateral (
        select q.task_id from pgprog_data.queue as q
        where q.incarnation = v_incarnations[l.pos] and q.status = 'r' limit 1
      ) as r on true
      where h.task_id is null
        and r.task_id is null
        and f.task_id is null
        and t.task_id is null
      order by v_incarnations[l.pos], l.pos
      limit _start.max_starts
    ) as f;
    foreach v_pos in array coalesce(v_free, '{}') loop
      v_claims[v_pos] := pgprog_engine._new_claim_id();
    end loop;
  end if;

  insert into pgprog_data.queue (
    task_id, namespace, process_id, incarnation, type, name, status, priority, due_at, rank, created_at,
    attempt, worker_id, claim_id, started_at, key, args, context)
  select
    v_ids[x.pos], _start.namespaces[x.pos], _start.process_ids[x.pos], v_incarnations[x.pos], _start.types[x.pos], _start.names[x.pos],
    case when v_claims[x.pos] is not null then 'r' when _start.run_ats[x.pos] > v_now then 'f' else 'w' end,
    _start.priorities[x.pos], greatest(_start.run_ats[x.pos], v_now),
    greatest(_start.run_ats[x.pos], v_now) - _start.priorities[x.pos] * interval '10 s', v_now,
    case when v_claims[x.pos] is not null then 1 else 0 end, case when v_claims[x.pos] is not null then _start.worker_id end,
    v_claims[x.pos], case when v_claims[x.pos] is not null then v_at end,
    _start.idempotency_keys[x.pos], _start.argss[x.pos], _start.contexts[x.pos]
  from unnest(v_codes) with ordinality as x(code, pos)
  where x.code is null
    and v_winners[x.pos] = v_ids[x.pos];

  if 'repair' = any (_start.types) then
    perform pgprog_engine._audit(
      'repair', _start.namespaces[x.pos], _start.process_ids[x.pos], v_ids[x.pos],
      jsonb_build_object('name', _start.names[x.pos]), null)
    from unnest(v_codes) with ordinality as x(code, pos)
    where x.code is null
      and v_winners[x.pos] = v_ids[x.pos]
      and _start.types[x.pos] = 'repair';
  end if;

  return query
    select
      x.pos::integer,
      case
        when x.code is not null then x.code
        when v_winners[x.pos] <> v_ids[x.pos] then 'known'
        when v_claims[x.pos] is not null then 'started'
        else 'queued'
      end,
      case when x.code is not null
        then pgprog_engine._refusal(x.code, _start.namespaces[x.pos], _start.process_ids[x.pos], v_messages[x.pos]) end,
      case when x.code is null then v_winners[x.pos] end,
      v_claims[x.pos], v_incarnations[x.pos], v_now, p.status, p.state_version, p.state, p.metadata, p.last_event_id, p.version
    from unnest(v_codes) with ordinality as x(code, pos)
    -- What is only queued looks up no process.
    left join pgprog_data.processes as p
      on p.incarnation = any (array[case when v_claims[x.pos] is not null then v_incarnations[x.pos] end])
    order by x.pos;
end
$$;

comment on function pgprog_engine._start(
  bigint, integer, text[], text[], text[], jsonb[], text[], text[], jsonb[], integer[], timestamptz[])
  is 'Take many requests in one statement batch; each has its own outcome and none raises for others';
