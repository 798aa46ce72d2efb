/*
 * End steps of a worker: events, process, answer, timers and the end of the task, all in one commit.
 *
 * One element of the arrays a step.  outcomes: 1 finished, 2 rejected (process untouched; of an init
 * absent again), 3 another attempt retry_after µs from here, 4 error that breaks the process,
 * 5 error that leaves the process untouched (of an init absent again), 6 error that breaks the process
 * and pauses its namespace, with the error's detail as reason.  thens: 0 none, 1 finish,
 * 2 remove.  states, metadatas: null leaves what was there.  event_of, timer_of: position of the step
 * that an event or timer belongs to; event_no counts from 1 within its step.  A timer with neither
 * time is unset; of several actions on one name in a step the last wins.  state_versions: of the state, if there
 * is one, and of the events; a process without a state has the version of its last step.
 *
 * Of a process in error the step is a repair: 1 makes it running, clears what broke it and gives
 * back its timers (without action on timers, the timer that broke it is due again); 4 is as 5, 6 pauses all the same.
 *
 * A row for each step has its outcome: 'done'; 'already': an earlier try of the same completion was
 * committed and its answer lost; 'busy': the process is locked elsewhere for some ms, or somebody
 * pauses, resumes or changes the settings of the namespace that it shall pause, give it again with the next flush; 'lost': the claim was taken away, nothing of this step was or will be
 * committed.  Further rows, 'next', carry the next task of the process at pos, already claimed, and at changed_at
 * when the events of the step were written:
 * where chains allows it and the worker lives.  A worker reads the state that it has written, or has read
 * and left: a chain needs no look at its version.
 *
 * Locks: worker (key share), starts of the namespaces to be paused (exclusive) and their rows (no key update, never
 * waiting), process rows (no key update, skip locked), then the fence: a delete by claim; for chains, where something follows, starts of the namespaces (shared,
 * never waiting).  Everything after joins what the fence returned.  The next task is chosen in a later
 * statement.  Indexes: processes by incarnation, queue by task_id, queue_head, timers_of.
 */
create or replace function pgprog_engine.complete(
  worker_id bigint, task_ids bigint[], claim_ids bigint[], incarnations bigint[], outcomes integer[],
  states jsonb[], state_versions integer[], metadatas jsonb[], responses jsonb[], errors jsonb[], retry_after bigint[],
  thens integer[], chains boolean[], event_counts integer[],
  event_of integer[], event_no integer[], event_payloads jsonb[], event_metadatas jsonb[],
  timer_of integer[], timer_names text[], timer_at timestamptz[], timer_after bigint[], timer_remove boolean[],
  out pos integer, out outcome text, out version bigint, out task_id bigint, out claim_id bigint,
  out type text, out name text, out attempt integer, out created_at timestamptz, out due_at timestamptz,
  out args jsonb, out context jsonb, out changed_at timestamptz)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
-- The transaction may be a handler's, which has set the planner for statements of its own.
set enable_nestloop = on
set enable_indexscan = on
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_count integer := cardinality(complete.task_ids);
  v_outcomes integer[];
  v_live boolean;
  v_at timestamptz;
  v_pos integer;
  v_locked integer[];
  v_done integer[] := '{}';
  v_held integer[] := '{}';
  v_repairs integer[];
  v_inits_rejected integer[];
  v_ok boolean[] := array_fill(false, array[v_count]);
  v_told text[];
  v_stopped text[];
  v_asked text[];
  v_open text[];
  v_namespaces text[];
  v_may_go boolean[];
  v_base bigint[];
  v_versions bigint[];
  v_stamps timestamptz[];
  v_repaired bigint[];
  v_rerun bigint[];
  v_broken bigint[];
  v_finished bigint[];
  v_removed bigint[];
  v_heads bigint[];
  v_heads_pos integer[];
  v_timers bigint[];
  v_timers_pos integer[];
  v_timer_names text[];
  v_still bigint[];
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform pgprog_engine._require_read_committed();
  end if;

  -- 1. Only a live worker may be given a next task; a late one may still complete what it holds.  Its end waits for us:
  -- what we roll back is given back with the rest.
  select true into v_live
  from pgprog_data.workers as w
  where w.worker_id = complete.worker_id
    and w.lease_until > pgprog_engine._clock()
  for key share;

  if 6 = any (complete.outcomes) then
    select pgprog_engine._stop_starts(array_agg(p.namespace)) into v_stopped
    from unnest(complete.incarnations, complete.outcomes) as x(incarnation, outcome)
    join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
    where x.outcome = 6;
  end if;

  -- 2. Process rows first: after the fence it would be too late to say 'busy'.  The version is drawn before the fence:
  -- the ended task carries it.  Times never decrease within a process, whatever the clock does.
  select
    coalesce(array_agg(l.pos order by l.pos), '{}'),
    array_agg(l.outcome order by l.pos),
    array_agg(l.namespace order by l.pos),
    array_agg(l.last_event_id order by l.pos),
    array_agg(greatest(pgprog_engine._clock(), l.changed_at) order by l.pos),
    array_agg(case when l.outcome in (1, 4) then nextval('pgprog_data.versions') else l.version end order by l.pos),
    array_agg(l.status in ('init', 'running') and l.outcome <> 4 and complete.thens[l.pos] = 0 order by l.pos),
    array_agg(l.pos) filter (where l.status = 'error' and l.outcome = 1)
  into v_locked, v_outcomes, v_namespaces, v_base, v_stamps, v_versions, v_may_go, v_repairs
  from (
    select
      l.pos, l.last_event_id, l.changed_at, l.status, l.version, l.namespace,
      case
        when l.outcome = 6 or l.outcome = 4 then case when l.status = 'error' then 5 else 4 end
        else l.outcome
      end as outcome
    from (
      select
        x.pos::integer as pos, complete.outcomes[x.pos] as outcome,
        p.last_event_id, p.changed_at, p.status, p.version, p.namespace
      from unnest(complete.incarnations) with ordinality as x(incarnation, pos)
      join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
      order by x.incarnation
      for no key update of p skip locked
    ) as l
    where l.outcome <> 6 or l.namespace = any (v_stopped)
    offset 0
  ) as l;
  v_at := pgprog_engine._clock();
  -- Some are busy: each value to the position of its step.
  if cardinality(v_locked) < v_count then
    select
      array_agg(v_outcomes[x.no] order by x.pos), array_agg(v_namespaces[x.no] order by x.pos),
      array_agg(v_base[x.no] order by x.pos), array_agg(v_stamps[x.no] order by x.pos),
      array_agg(v_versions[x.no] order by x.pos), array_agg(v_may_go[x.no] order by x.pos)
    into v_outcomes, v_namespaces, v_base, v_stamps, v_versions, v_may_go
    from (
      select p.pos, array_position(v_locked, p.pos) as no from generate_series(1, v_count) as p(pos) offset 0
    ) as x;
  end if;
  if cardinality(v_locked) > 0 then
    -- 3. The fence: by claim, under the process lock; the ended task and its answer in the same statement.
    -- Tasks end by the clock, not by the times of their process: these may lie ahead, where no partition is.
    with fenced as (
      delete from pgprog_data.queue as q
      using (
        select l.pos, complete.task_ids[l.pos] as task_id, complete.claim_ids[l.pos] as claim_id
        from unnest(v_locked) as l(pos)
        where complete.outcomes[l.pos] <> 3
      ) as x
      where q.task_id = any (array[x.task_id])
        and q.claim_id = x.claim_id
      returning q.*, x.pos
    ),
    ended as (
      insert into pgprog_data.tasks (
        task_id, namespace, process_id, incarnation, type, name, status, priority, attempt, crashes,
        due_at, created_at, started_at, ended_at, worker_id, claim_id, version, first_event_id, events,
        key, args, context, response, error)
      select
        f.task_id, f.namespace, f.process_id, f.incarnation, f.type, f.name,
        case when complete.outcomes[f.pos] in (4, 5, 6) then 'error' else 'finished' end, f.priority, f.attempt, f.crashes,
        f.due_at, f.created_at, f.started_at, v_at, f.worker_id, f.claim_id, v_versions[f.pos],
        case when complete.outcomes[f.pos] = 1 and complete.event_counts[f.pos] > 0 then v_base[f.pos] + 1 end,
        case when complete.outcomes[f.pos] = 1 then complete.event_counts[f.pos] else 0 end,
        f.key, f.args, f.context, complete.responses[f.pos], complete.errors[f.pos]
      from fenced as f
    )
    select
      coalesce(array_agg(f.pos), '{}'),
      array_agg(f.pos) filter (where f.type = 'init' and v_outcomes[f.pos] in (2, 5))
    into v_done, v_inits_rejected
    from fenced as f;

    if 3 = any (complete.outcomes) then
      -- A task in retry keeps its place and holds up those behind it.
      with held as (
        update pgprog_data.queue as q
        set status = 'h', due_at = v_at + complete.retry_after[x.pos] * interval '1 microsecond',
          claim_id = null, worker_id = null
        from (
          select l.pos, complete.task_ids[l.pos] as task_id, complete.claim_ids[l.pos] as claim_id
          from unnest(v_locked) as l(pos)
          where complete.outcomes[l.pos] = 3
        ) as x
        where q.task_id = any (array[x.task_id])
          and q.claim_id = x.claim_id
          and q.type not in ('timeout', 'remove')
        returning q.task_id, q.namespace, q.attempt, q.started_at, q.due_at, x.pos, x.claim_id
      ),
      noted as (
        insert into pgprog_data.attempts (
          namespace, task_id, claim_id, attempt, worker_id, outcome, started_at, ended_at, retry_at, error)
        select h.namespace, h.task_id, h.claim_id, h.attempt, complete.worker_id, 'retry', h.started_at, v_at, h.due_at, complete.errors[h.pos]
        from held as h
      )
      select coalesce(array_agg(h.pos), '{}') into v_held from held as h;
      -- Of those that a claim blocked behind it some may go now, and timers once they are overdue.
      perform pgprog_engine._let_next_go(array(select complete.incarnations[h.pos] from unnest(v_held) as h(pos)));
      -- A timer in retry goes back to the timers and holds nobody up.
      with freed as (
        delete from pgprog_data.queue as q
        using (
          select l.pos, complete.task_ids[l.pos] as task_id, complete.claim_ids[l.pos] as claim_id
          from unnest(v_locked) as l(pos)
          where complete.outcomes[l.pos] = 3
        ) as x
        where q.task_id = any (array[x.task_id])
          and q.claim_id = x.claim_id
          and q.type in ('timeout', 'remove')
        returning q.*, x.pos
      ),
      noted as (
        insert into pgprog_data.attempts (
          namespace, task_id, claim_id, attempt, worker_id, outcome, started_at, ended_at, retry_at, error)
        select f.namespace, f.task_id, f.claim_id, f.attempt, complete.worker_id, 'retry', f.started_at, v_at,
          v_at + complete.retry_after[f.pos] * interval '1 microsecond', complete.errors[f.pos]
        from freed as f
      ),
      back as (
        insert into pgprog_data.timers (
          incarnation, name, task_id, namespace, process_id, type, attempt, crashes, due_at, created_at, context)
        select f.incarnation, f.name, f.task_id, f.namespace, f.process_id, f.type, f.attempt, f.crashes,
          v_at + complete.retry_after[f.pos] * interval '1 microsecond', f.created_at, f.context
        from freed as f
        on conflict (incarnation, name) do nothing
      )
      select v_done || coalesce(array_agg(f.pos), '{}') into v_done from freed as f;
    end if;
  end if;
  foreach v_pos in array v_done || v_held loop
    v_ok[v_pos] := true;
  end loop;

  if cardinality(v_done) > 0 then
    -- 4. Events: their ids go on from the locked row.
    if cardinality(complete.event_of) > 0 then
      insert into pgprog_data.events (incarnation, event_id, task_id, at, state_version, payload, metadata)
      select
        complete.incarnations[e.pos], v_base[e.pos] + e.no, complete.task_ids[e.pos], v_stamps[e.pos],
        complete.state_versions[e.pos], e.payload, e.metadata
      from unnest(complete.event_of, complete.event_no, complete.event_payloads, complete.event_metadatas)
        as e(pos, no, payload, metadata)
      where v_ok[e.pos] and complete.outcomes[e.pos] = 1;
    end if;

    -- 5. Processes; repaired ones still say what broke them.
    if cardinality(v_repairs) > 0 then
      select array_agg(complete.incarnations[r.pos]), array_agg(complete.incarnations[r.pos]) filter (where r.rerun)
      into v_repaired, v_rerun
      from (
        select r.pos, complete.thens[r.pos] = 0 and not r.pos = any (complete.timer_of) as rerun
        from unnest(v_repairs) as r(pos)
        where v_ok[r.pos]
      ) as r;
      perform pgprog_engine._restore_timers(v_repaired, v_rerun, v_at);
      delete from pgprog_data.ended_processes as e where e.incarnation = any (v_repaired);
    end if;
    update pgprog_data.processes as p
    set
      version = v_versions[x.pos],
      changed_at = v_stamps[x.pos],
      last_event_id = p.last_event_id + case when x.finished then complete.event_counts[x.pos] else 0 end,
      state = case when x.finished then coalesce(complete.states[x.pos], p.state) else p.state end,
      state_version = case when x.finished and (complete.states[x.pos] is not null or p.state is null)
        then complete.state_versions[x.pos] else p.state_version end,
      metadata = case when x.finished then nullif(coalesce(complete.metadatas[x.pos], p.metadata), 'null'::jsonb) else p.metadata end,
      status = x.status,
      previous_status = case when p.status <> x.status then p.status else p.previous_status end,
      status_changed_at = case when p.status <> x.status then v_stamps[x.pos] else p.status_changed_at end,
      detail = case when not x.finished then complete.errors[x.pos] ->> 'detail' end,
      corrupted_by = case when not x.finished then complete.task_ids[x.pos] end
    from (
      select d.pos, v_outcomes[d.pos] = 1 as finished,
        case when v_outcomes[d.pos] = 4 then 'error' when complete.thens[d.pos] = 1 then 'finished' else 'running' end as status
      from unnest(v_done) as d(pos)
      where v_outcomes[d.pos] in (1, 4)
    ) as x
    where p.incarnation = any (array[complete.incarnations[x.pos]]);

    -- 6. Timers: those of the same name give way first.
    if cardinality(complete.timer_of) > 0 then
      perform pgprog_engine._cancel_timers(array_agg(complete.incarnations[t.pos]), array_agg(t.name), 'replaced', v_at)
      from unnest(complete.timer_of, complete.timer_names) as t(pos, name)
      where v_ok[t.pos] and v_outcomes[t.pos] = 1;
      insert into pgprog_data.timers (
        incarnation, name, task_id, namespace, process_id, type, due_at, created_at, context)
      select
        p.incarnation, t.name, nextval('pgprog_data.task_ids'), p.namespace, p.process_id,
        case when t.remove then 'remove' else 'timeout' end,
        coalesce(t.at, v_at + t.after * interval '1 microsecond'), v_at,
        (select e.context from pgprog_data.tasks as e
         where e.task_id = complete.task_ids[t.pos] and e.ended_at = v_at limit 1)
      from (
        select distinct on (t.pos, t.name) t.pos, t.name, t.at, t.after, t.remove
        from unnest(complete.timer_of, complete.timer_names, complete.timer_at, complete.timer_after, complete.timer_remove)
          with ordinality as t(pos, name, at, after, remove, no)
        where v_ok[t.pos] and v_outcomes[t.pos] = 1
        order by t.pos, t.name, t.no desc
      ) as t
      join pgprog_data.processes as p on p.incarnation = any (array[complete.incarnations[t.pos]])
      where t.at is not null or t.after is not null;
    end if;

    -- 7. Ends of processes.
    if 4 = any (v_outcomes) or 1 = any (complete.thens) or 2 = any (complete.thens) or v_inits_rejected is not null then
      select
        array_agg(complete.incarnations[d.pos]) filter (where v_outcomes[d.pos] = 4),
        array_agg(complete.incarnations[d.pos]) filter (where v_outcomes[d.pos] = 1 and complete.thens[d.pos] = 1),
        array_agg(complete.incarnations[d.pos]) filter (where v_outcomes[d.pos] = 1 and complete.thens[d.pos] = 2)
      into v_broken, v_finished, v_removed
      from unnest(v_done) as d(pos);
      insert into pgprog_data.ended_processes (incarnation, namespace, status, at, type, name, priority, args, context)
      select p.incarnation, p.namespace, p.status, v_at, e.type, e.name, e.priority, e.args, e.context
      from unnest(v_done) as d(pos)
      join pgprog_data.processes as p on p.incarnation = any (array[complete.incarnations[d.pos]])
      left join lateral (
        select e.type, e.name, e.priority, e.args, e.context from pgprog_data.tasks as e
        where e.task_id = complete.task_ids[d.pos] and e.ended_at = v_at and v_outcomes[d.pos] = 4 limit 1
      ) as e on true
      where v_outcomes[d.pos] = 4
        or (v_outcomes[d.pos] = 1 and complete.thens[d.pos] = 1)
      on conflict (incarnation) do nothing;
      if v_broken is not null then
        update pgprog_data.timers as t
        set status = 's'
        where t.incarnation = any (v_broken);
        perform pgprog_engine._end_tasks(v_broken, null, v_at);
      end if;
      if v_finished is not null then
        perform pgprog_engine._end_tasks(v_finished, null, v_at);
        perform pgprog_engine._cancel_timers(v_finished, array_fill(null::text, array[cardinality(v_finished)]), 'process finished', v_at);
      end if;
      if v_removed is not null then
        perform pgprog_engine._remove_processes(v_removed, 'removed', v_at);
      end if;
      if v_inits_rejected is not null then
        foreach v_pos in array v_inits_rejected loop
          v_may_go[v_pos] := false;
        end loop;
        perform pgprog_engine._remove_processes(
          (select array_agg(complete.incarnations[r.pos]) from unnest(v_inits_rejected) as r(pos)), 'init rejected', v_at);
      end if;
    end if;

    -- One that is paused already keeps its time and reason.
    if 6 = any (complete.outcomes) then
      update pgprog_data.namespaces as n
      set paused_at = v_at, pause_reason = x.reason
      from (
        select distinct on (v_namespaces[d.pos]) v_namespaces[d.pos] as namespace, complete.errors[d.pos] ->> 'detail' as reason
        from unnest(v_done) as d(pos)
        where complete.outcomes[d.pos] = 6
        order by v_namespaces[d.pos], d.pos
      ) as x
      where n.namespace = x.namespace
        and n.paused_at is null;
    end if;

    -- 8. A statement of its own: the next task of the same process, or else its due timer.  What was
    -- tried before may have to run alone, a repair is not for a running process, and a task that has come due but does
    -- not wait yet may be first: the claim sees to those.  A blocked timer was due once, though the clock may have
    -- gone back since, by up to a day: where neither is found nothing is blocked, and nobody to be let go.
    select
      array_agg(h.task_id) filter (where h.go and h.task_id is not null),
      array_agg(h.pos) filter (where h.go and h.task_id is not null),
      array_agg(h.incarnation) filter (where h.go and h.task_id is null),
      array_agg(h.pos) filter (where h.go and h.task_id is null),
      array_agg(h.timer) filter (where h.go and h.task_id is null),
      array_agg(h.incarnation) filter (where h.go is not true)
    into v_heads, v_heads_pos, v_timers, v_timers_pos, v_timer_names, v_still
    from (
      select
        d.pos, complete.incarnations[d.pos] as incarnation, c.task_id, t.name as timer,
        complete.chains[d.pos] and v_may_go[d.pos] and c.status is distinct from 'h'
          and c.type is distinct from 'repair' and coalesce(t.type, 'timeout') = 'timeout'
          and coalesce(c.attempt, t.attempt) = 0 and f.task_id is null
          and (c.task_id is not null or coalesce(t.due_at <= v_at, true)) as go
      from unnest(v_done) as d(pos)
      left join lateral (
        select q.task_id, q.status, q.type, q.attempt from pgprog_data.queue as q
        where q.incarnation = complete.incarnations[d.pos] and q.status in ('w', 'b', 'h')
        order by q.task_id limit 1
      ) as c on true
      left join lateral (
        select t.task_id, t.name, t.type, t.attempt, t.due_at from pgprog_data.timers as t
        where t.incarnation = complete.incarnations[d.pos] and t.due_at <= v_at + interval '1 day'
          and (t.status in ('b', 'p') or t.status = 'w' and t.due_at <= v_at)
        order by t.due_at limit 1
      ) as t on true
      -- Not looked for where nothing follows, as after most steps.
      left join lateral (
        select f.task_id from pgprog_data.queue as f
        where f.incarnation = complete.incarnations[d.pos] and f.status = 'f' and f.due_at <= v_at
          and coalesce(c.task_id, t.task_id) is not null
        limit 1
      ) as f on true
      where c.task_id is not null or t.task_id is not null
      offset 0
    ) as h;
    -- Only where something follows: whether it may start.  The process lock keeps what was chosen as it is.
    if v_heads is not null or v_timers is not null then
      v_asked := array(select distinct v_namespaces[h.pos] from unnest(v_heads_pos || v_timers_pos) as h(pos));
      v_open := '{}';
      if v_live then
        v_open := pgprog_engine._open_namespaces(v_asked);
        -- A later statement than the locks.  In a namespace at its limit others come first.
        select coalesce(array_agg(n.namespace), '{}') into v_open
        from pgprog_data.namespaces as n
        where n.namespace = any (v_open)
          and n.paused_at is null
          and (n.concurrency is null or n.concurrency > (
            select count(*) from pgprog_data.queue as q where q.status = 'r' and q.namespace = n.namespace) + (
            select count(*) from unnest(v_done) as d(pos) where v_namespaces[d.pos] = n.namespace));
      end if;
      if cardinality(v_open) < cardinality(v_asked) then
        v_still := v_still || array(
          select complete.incarnations[h.pos] from unnest(v_heads_pos || v_timers_pos) as h(pos)
          where v_namespaces[h.pos] <> all (v_open));
        select array_agg(h.task_id), array_agg(h.pos) into v_heads, v_heads_pos
        from unnest(v_heads, v_heads_pos) as h(task_id, pos)
        where v_namespaces[h.pos] = any (v_open);
        select array_agg(t.incarnation), array_agg(t.name) into v_timers, v_timer_names
        from unnest(v_timers, v_timer_names, v_timers_pos) as t(incarnation, name, pos)
        where v_namespaces[t.pos] = any (v_open);
      end if;
    end if;
    if v_still is not null then
      perform pgprog_engine._let_next_go(v_still);
    end if;
    if v_heads is not null then
      return query
        update pgprog_data.queue as q
        set status = 'r', worker_id = complete.worker_id, claim_id = pgprog_engine._new_claim_id(),
          attempt = q.attempt + 1, started_at = v_at, begun = false
        from unnest(v_heads, v_heads_pos) as x(task_id, pos)
        where q.task_id = any (array[x.task_id])
        returning x.pos, 'next'::text, v_versions[x.pos], q.task_id, q.claim_id, q.type, q.name, q.attempt,
          q.created_at, q.due_at, q.args, q.context, v_stamps[x.pos];
    end if;
    if v_timers is not null then
      return query
        select d.pos, 'next'::text, v_versions[d.pos], s.task_id, s.claim_id, s.type, s.name, s.attempt,
          s.created_at, s.due_at, s.args, s.context, v_stamps[d.pos]
        from pgprog_engine._start_timers(complete.worker_id, v_timers, v_timer_names, v_at) as s
        join unnest(v_done) as d(pos) on complete.incarnations[d.pos] = s.incarnation;
    end if;
  end if;

  -- 9. An outcome for each.  Why a step was not done is asked only where there is one: tasks has many partitions.
  if false = any (v_ok) then
    select
      array_agg(case
        when x.ok then 'done'
        when (select true from pgprog_data.tasks as t
              where t.task_id = complete.task_ids[x.pos] and t.claim_id = complete.claim_ids[x.pos] limit 1) then 'already'
        when (select true from pgprog_data.attempts as a
              where a.task_id = complete.task_ids[x.pos] and a.claim_id = complete.claim_ids[x.pos]
                and a.outcome = 'retry' limit 1) then 'already'
        when not x.pos = any (v_locked)
          and (select true from pgprog_data.queue as q
               where q.task_id = complete.task_ids[x.pos] and q.claim_id = complete.claim_ids[x.pos] limit 1) then 'busy'
        else 'lost'
      end order by x.pos),
      array_agg(case when x.ok then v_versions[x.pos] else (
        select t.version from pgprog_data.tasks as t
        where t.task_id = complete.task_ids[x.pos] and t.claim_id = complete.claim_ids[x.pos] limit 1) end order by x.pos)
    into v_told, v_versions
    from unnest(v_ok) with ordinality as x(ok, pos);
  end if;
  return query
    select
      x.pos, coalesce(v_told[x.pos], 'done'), v_versions[x.pos], null::bigint, null::bigint, null::text, null::text, null::integer,
      null::timestamptz, null::timestamptz, null::jsonb, null::jsonb, null::timestamptz
    from generate_series(1, v_count) as x(pos);
end
$$;

comment on function pgprog_engine.complete(
  bigint, bigint[], bigint[], bigint[], integer[], jsonb[], integer[], jsonb[], jsonb[], jsonb[], bigint[], integer[],
  boolean[], integer[], integer[], integer[], jsonb[], jsonb[], integer[], text[], timestamptz[], bigint[], boolean[])
  is 'End steps of a worker: events, process, answer, timers and the end of the task, all in one commit';
