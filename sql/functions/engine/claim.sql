/*
 * Claim up to max_tasks due tasks for a worker, at most one of each process, with all a step needs.
 *
 * The last row has no task: its wait_us says when to ask again (0: something was passed by or is
 * left; 20 ms: a namespace is being paused, or work in
 * one with a limit is due; a day: nothing is due or planned in the served namespaces
 * before that).  Its due_at is the time, by the database's clock.  Its version is the sum of the settings_version of the served namespaces: while it stays, their
 * settings do.  With since the next claim may begin at the rank
 * that is its created_at and the task that is its claim_id.  Its attempt is how many microseconds the claim took, a thousand seconds at most.
 *
 * Order: by rank within a namespace, the budget divided over the namespaces with due work; where it
 * is smaller than their number, those come first of which the worker holds the fewest tasks by its own count
 * (held, in the order of held_in), then those whose first task waits longest: one with a long backlog has waited
 * longest for ever.  With most, only namespaces of which fewer than that are held.  Process rows are the locks; a
 * process locked elsewhere is passed by, up to three windows of candidates.  The task is chosen in a
 * statement later than the locks, so that it sees what was committed meanwhile.  What can never run
 * ends here and its waiter is told: tasks of gone, broken and finished processes, repairs of a
 * process that is not in error, steps that crashed their workers too often.
 *
 * What belongs to processes whose state is newer than the worker reads is left to others.  Where the claim
 * meets such, it sets them aside, a thousand at once (_set_aside); it looks only at those set aside that it can
 * read, and while there are none at all that costs one look.
 *
 * since: only what ranks there or later is looked at, beginning with since_task, and what comes due now.  Rows that have ended and are kept by an
 * old snapshot all rank before it; so may what was given back, freed or committed late: first_rank finds it.
 *
 * Where it only starts tasks the transaction waits for no flush of WAL: a crash of the server may take the claims back.  Their
 * tasks wait again then, and what their workers complete is lost, for no other claim has their ids (_new_claim_id).
 *
 * alone: the task was lost with a worker before, whether or not it is known to have begun: whatever
 * it does, nothing else should run in the same operating-system process.
 *
 * In a namespace with a limit no more is started than its concurrency allows; one claim at a time counts
 * there, others pass it by.
 *
 * Locks: worker (key share), limits of namespaces (exclusive, never waiting), starts of the candidates' namespaces (shared, never waiting), process rows
 * (no key update, skip locked), queue and timer rows.
 * Indexes: queue_ready, timers_due, timers_of, queue_newer, timers_newer, timers_patient, queue_head, queue_running, queue_later.
 * Raises UP002: the lease of the worker is lost.
 */
create or replace function pgprog_engine.claim(
  worker_id bigint, max_tasks integer,
  held_in text[] default '{}', held integer[] default '{}', most integer default null,
  since timestamptz default null, since_task bigint default 0,
  out task_id bigint, out claim_id bigint, out incarnation bigint, out namespace text, out process_id text,
  out type text, out name text, out attempt integer, out created_at timestamptz, out due_at timestamptz,
  out args jsonb, out context jsonb, out status text, out state_version integer, out state jsonb,
  out metadata jsonb, out last_event_id bigint, out version bigint, out alone boolean, out wait_us bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
  v_at timestamptz;
  v_served text[];
  v_reads_in text[];
  v_reads integer[];
  v_aside_in text[];
  v_aside integer[];
  v_aside_tasks bigint[];
  v_aside_incarnations bigint[];
  v_aside_ranks timestamptz[];
  v_aside_spaces text[];
  v_newer bigint[];
  v_newer_in text[];
  v_only text;
  v_is_due boolean;
  v_is_patient boolean;
  v_is_aside boolean;
  v_since timestamptz := coalesce(claim.since, '-infinity');
  v_since_task bigint := claim.since_task;
  v_joined timestamptz;
  v_ranks timestamptz[];
  v_all bigint[];
  v_all_in text[];
  v_seen timestamptz;
  v_seen_task bigint;
  v_active text[];
  v_limited text[];
  v_counted text[];
  v_rooms bigint[] := array[null::bigint];  -- '{null}' is none where array_nulls is off
  v_full text[] := '{}';
  v_due_in text[];
  v_open text[];
  v_patience interval[];
  v_max_crashes integer[];
  v_soon boolean := false;
  v_share integer;
  v_candidates bigint[];
  v_wanted bigint[];
  v_locked bigint[];
  v_statuses text[];
  v_spaces integer[];
  v_are_newer boolean[];
  v_gone bigint[];
  v_elsewhere bigint[] := '{}';
  v_ways text[];
  v_ins bigint[];
  v_names text[];
  v_timer_ids bigint[];
  v_tried boolean[];
  v_chosen bigint[];
  v_timers bigint[];
  v_timer_names text[];
  v_removals bigint[];
  v_removal_names text[];
  v_poison bigint[];
  v_refused bigint[];
  v_refused_in bigint[];
  v_again bigint[];
  v_lost bigint[];
  v_got integer := 0;
  v_count integer;
  v_freed boolean;
  v_more boolean := false;
  v_must_last boolean := false;
  v_next timestamptz;
  v_setting text;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    perform pgprog_engine._require_read_committed();
  end if;

  -- 1. The worker must live; the collector takes the same row for update.  In the same statement a look at what there
  -- hardly ever is, and at the namespace where it serves one without a limit: statements of their own take as long again.
  select
    w.namespaces, w.state_versions, n.namespace,
    exists (
      select 1 from unnest(w.namespaces) as s(namespace)
      cross join lateral (
        select 1 from pgprog_data.queue as q
        where q.namespace = s.namespace and q.status in ('f', 'h') and q.due_at <= v_now
        order by q.due_at limit 1
      ) as d),
    exists (select 1 from pgprog_data.timers as t where t.status = 'p'),
    exists (select 1 from pgprog_data.queue as q where q.status = 'w' and q.needs_version is not null)
      or exists (select 1 from pgprog_data.timers as t where t.status = 'w' and t.needs_version is not null)
  into v_reads_in, v_reads, v_only, v_is_due, v_is_patient, v_is_aside
  from pgprog_data.workers as w
  left join pgprog_data.namespaces as n
    on n.namespace = w.namespaces[1] and cardinality(w.namespaces) = 1 and n.paused_at is null and n.concurrency is null
  where w.worker_id = claim.worker_id
    and w.lease_until > pgprog_engine._clock()
  for key share of w;
  if not found then
    raise exception 'the lease of worker % is lost', claim.worker_id using errcode = 'UP002';
  end if;
  v_served := v_reads_in;

  if claim.most is not null then
    select coalesce(array_agg(s.namespace), '{}') into v_served
    from unnest(v_served) as s(namespace)
    where coalesce(claim.held[array_position(claim.held_in, s.namespace)], 0) < claim.most;
  end if;

  -- 2. What has come due joins the waiting ones; like an insert this needs no process lock.
  if v_is_due then
    with due as (
      update pgprog_data.queue as q
      set status = 'w'
      where q.task_id = any (array(
        select d.task_id
        from unnest(v_served) as s(namespace)
        cross join lateral (
          select l.task_id from pgprog_data.queue as l
          where l.namespace = s.namespace and l.status in ('f', 'h') and l.due_at <= v_now
          order by l.due_at limit 1000
          for update skip locked
        ) as d))
      returning q.rank
    )
    select min(d.rank) into v_joined from due as d;
  end if;
  -- So do timers whose patience with a task in retry has ended.
  if v_is_patient then
    with due as (
      update pgprog_data.timers as t
      set status = 'w'
      where t.task_id = any (array(
        select d.task_id
        from unnest(v_served) as s(namespace)
        join pgprog_data.namespaces as n on n.namespace = s.namespace
        cross join lateral (
          select p.task_id from pgprog_data.timers as p
          where p.namespace = s.namespace and p.status = 'p' and p.due_at <= v_now - n.timer_patience
          order by p.due_at limit 1000
          for update skip locked
        ) as d))
      returning t.due_at
    )
    select least(v_joined, min(d.due_at)) into v_joined from due as d;
  end if;
  if v_joined <= v_since then
    v_since := v_joined;
    v_since_task := 0;
  end if;
  -- What has come due may have been set aside before it was tried, and waits with those only now.
  if not v_is_aside and (v_is_due or v_is_patient) then
    v_is_aside := exists (select 1 from pgprog_data.queue as q where q.status = 'w' and q.needs_version is not null)
      or exists (select 1 from pgprog_data.timers as t where t.status = 'w' and t.needs_version is not null);
  end if;

  if v_is_aside then
    select a.namespaces, a.versions into v_aside_in, v_aside
    from pgprog_engine._aside(v_reads_in, v_reads) as a;
  end if;

  for v_window in 1..3 loop
    -- 3. Candidates.
    if v_only = any (v_served) then
      -- With no other to share with, its candidates say whether there is work.
      v_active := v_served;
    else
      select array_agg(s.namespace), array_agg(s.namespace) filter (where n.concurrency is not null), array_agg(null::bigint)
      into v_active, v_limited, v_rooms
      from unnest(v_served) as s(namespace)
      join pgprog_data.namespaces as n on n.namespace = s.namespace and n.paused_at is null
      left join lateral (
        select q.task_id from pgprog_data.queue as q
        where q.namespace = s.namespace and q.status = 'w' and q.needs_version is null
          and (q.rank, q.task_id) >= (v_since, v_since_task)
        order by q.rank limit 1
      ) as q on true
      left join lateral (
        select t.task_id from pgprog_data.timers as t
        where t.namespace = s.namespace and t.status = 'w' and t.needs_version is null
          and t.due_at >= v_since and t.due_at <= v_now
        order by t.due_at limit 1
      ) as t on true
      where q.task_id is not null or t.task_id is not null or s.namespace = any (v_aside_in);
    end if;
    exit when v_active is null;
    if v_limited is not null then
      v_soon := true;
      select coalesce(array_agg(x.namespace), '{}') into v_counted
      from unnest(v_limited) as x(namespace)
      where pg_try_advisory_xact_lock(pgprog_engine._limit_lock(x.namespace));
      -- A later statement: it sees what the claim before us has started.
      select
        array_agg(a.namespace) filter (where a.may_start), array_agg(a.room) filter (where a.may_start),
        v_full || coalesce(array_agg(a.namespace) filter (where not a.may_start), '{}')
      into v_active, v_rooms, v_full
      from (
        select
          x.namespace, n.concurrency - coalesce(r.running, 0) as room,
          n.concurrency is null
            or (n.concurrency > coalesce(r.running, 0) and n.namespace = any (v_counted)) as may_start
        from unnest(v_active) as x(namespace)
        join pgprog_data.namespaces as n on n.namespace = x.namespace
        left join (
          select q.namespace, count(*) as running from pgprog_data.queue as q
          where q.status = 'r' and q.namespace = any (v_counted)
          group by q.namespace
        ) as r on r.namespace = x.namespace
      ) as a;
      exit when v_active is null;
    end if;
    v_share := (claim.max_tasks - v_got + cardinality(v_active) - 1) / cardinality(v_active);
    if v_aside_in is not null then
      select array_agg(a.task_id), array_agg(a.incarnation), array_agg(a.rank), array_agg(v.namespace)
      into v_aside_tasks, v_aside_incarnations, v_aside_ranks, v_aside_spaces
      from unnest(v_aside_in, v_aside) as v(namespace, version)
      cross join lateral (
        (select q.task_id, q.incarnation, q.rank from pgprog_data.queue as q
         where q.namespace = v.namespace and q.needs_version = v.version and q.status = 'w'
           and q.incarnation <> all (v_elsewhere)
         order by q.rank, q.task_id limit v_share)
        union all
        (select t.task_id, t.incarnation, t.due_at from pgprog_data.timers as t
         where t.namespace = v.namespace and t.needs_version = v.version and t.status = 'w' and t.due_at <= v_now
           and t.incarnation <> all (v_elsewhere)
         order by t.due_at limit v_share)
      ) as a;
    end if;
    select array_agg(c.task_id), array_agg(c.incarnation), array_agg(c.namespace), array_agg(c.rank)
    into v_candidates, v_wanted, v_due_in, v_ranks
    from (
      select c.task_id, c.incarnation, s.namespace, c.rank
      from (
        select a.namespace, a.room, coalesce(claim.held[array_position(claim.held_in, a.namespace)], 0) as held
        from unnest(v_active, v_rooms) as a(namespace, room)
        offset 0
      ) as s
      cross join lateral (
        select u.task_id, u.incarnation, u.rank, row_number() over (order by u.rank, u.task_id) as no
        from (
          (select q.task_id, q.incarnation, q.rank from pgprog_data.queue as q
           where q.namespace = s.namespace and q.status = 'w' and q.needs_version is null
             and (q.rank, q.task_id) >= (v_since, v_since_task) and q.incarnation <> all (v_elsewhere)
           order by q.rank, q.task_id limit v_share)
          union all
          (select t.task_id, t.incarnation, t.due_at from pgprog_data.timers as t
           where t.namespace = s.namespace and t.status = 'w' and t.needs_version is null
             and t.due_at >= v_since and t.due_at <= v_now and t.incarnation <> all (v_elsewhere)
           order by t.due_at limit v_share)
          union all
          (select v_aside_tasks[a.i], v_aside_incarnations[a.i], v_aside_ranks[a.i]
           from generate_subscripts(v_aside_tasks, 1) as a(i)
           where v_aside_spaces[a.i] = s.namespace)
        ) as u
        order by u.rank, u.task_id limit least(v_share, s.room)
      ) as c
      order by s.held + c.no, c.rank limit claim.max_tasks - v_got
    ) as c;
    exit when v_candidates is null;
    v_all := v_wanted;
    v_all_in := v_due_in;
    if cardinality(v_candidates) > 1 then
      v_wanted := array(select distinct x.incarnation from unnest(v_wanted) as x(incarnation));
      v_due_in := array(select distinct x.namespace from unnest(v_due_in) as x(namespace));
    end if;
    -- One that is being paused at this moment is left out; that it was paused is seen in step 6.
    v_open := pgprog_engine._open_namespaces(v_due_in);
    if cardinality(v_open) < cardinality(v_due_in) then
      select array_agg(s.namespace) into v_served
      from unnest(v_served) as s(namespace)
      where s.namespace = any (v_open) or s.namespace <> all (v_due_in);
      v_soon := true;
      continue;
    end if;
    -- A later statement than the locks: one that was paused just before is open no more.
    select coalesce(array_agg(n.namespace), '{}'), array_agg(n.timer_patience), array_agg(n.max_crashes)
    into v_open, v_patience, v_max_crashes
    from pgprog_data.namespaces as n
    where n.namespace = any (v_open) and n.paused_at is null;

    -- 4. Their process rows; one that is locked elsewhere is passed by.  What a locked row says holds until we end.
    select
      coalesce(array_agg(l.incarnation), '{}'), array_agg(l.status), array_agg(array_position(v_open, l.namespace)),
      array_agg(l.is_newer)
    into v_locked, v_statuses, v_spaces, v_are_newer
    from (
      select
        p.incarnation, p.status, p.namespace,
        p.state_version > 1 and p.state_version > pgprog_engine._version_read(p.namespace, v_reads_in, v_reads) as is_newer
      from pgprog_data.processes as p
      where p.incarnation = any (v_wanted)
      order by p.incarnation
      for no key update skip locked
    ) as l;
    v_at := pgprog_engine._clock();
    -- Up to the last candidate of each namespace all was looked at; where one has none here, or no room, not.
    if claim.since is not null and v_elsewhere = '{}'
      and (cardinality(v_reads_in) = 1 or (v_limited is null and cardinality(v_due_in) = cardinality(v_active)))
    then
      select a.rank, a.task_id into v_seen, v_seen_task
      from (
        (select distinct on (c.namespace) c.rank, c.task_id
         from unnest(v_all_in, v_ranks, v_candidates) as c(namespace, rank, task_id)
         order by c.namespace, c.rank desc, c.task_id desc)
        union all
        (select c.rank, c.task_id
         from unnest(v_all, v_ranks, v_candidates) as c(incarnation, rank, task_id)
         where c.incarnation <> all (v_locked))
      ) as a
      order by a.rank, a.task_id limit 1;
    end if;

    -- 5. End what can never run.
    v_gone := null;
    if cardinality(v_locked) < cardinality(v_wanted) then
      select array_agg(x.incarnation) into v_gone
      from unnest(v_wanted) as x(incarnation)
      where (select p.incarnation from pgprog_data.processes as p where p.incarnation = x.incarnation limit 1) is null;
    end if;
    if v_gone is not null then
      perform pgprog_engine._end_tasks(v_gone, null, v_at);
      perform pgprog_engine._cancel_timers(v_gone, array_fill(null::text, array[cardinality(v_gone)]), 'removed', v_at);
      -- What was asked in a transaction that was open meanwhile: the note of the removal may be gone, with the rest.
      insert into pgprog_data.removals (incarnation, namespace, removed_at)
      select distinct on (t.incarnation) t.incarnation, t.namespace, v_at
      from unnest(v_gone) as x(incarnation)
      join pgprog_data.tasks as t on t.incarnation = any (array[x.incarnation])
      where t.ended_at = v_at
        and (t.args is not null or t.context is not null)
      order by t.incarnation
      on conflict do nothing;
    end if;
    if v_statuses && '{error,finished}' then
      perform pgprog_engine._end_tasks(
        array(
          select x.incarnation from unnest(v_locked, v_statuses) as x(incarnation, status)
          where x.status in ('error', 'finished')),
        null, v_at);
    end if;

    v_newer := '{}';
    if true = any (v_are_newer) then
      select array_agg(x.incarnation), array_agg(v_open[x.space]) into v_newer, v_newer_in
      from unnest(v_locked, v_spaces, v_are_newer) as x(incarnation, space, is_newer)
      where x.is_newer;
      perform pgprog_engine._set_aside(v_newer_in, v_reads_in, v_reads);
    end if;

    -- 6. A later statement chooses one task a process; a timer only where nothing waits, or overdue past patience.
    select
      array_agg(h.way), array_agg(h.incarnation), array_agg(h.task_id), array_agg(h.timer), array_agg(h.timer_id),
      array_agg(h.attempt > 0)
    into v_ways, v_ins, v_chosen, v_names, v_timer_ids, v_tried
    from (
      select
        x.incarnation, coalesce(i.task_id, c.task_id) as task_id, t.name as timer, t.task_id as timer_id,
        greatest(i.attempt, c.attempt, t.attempt) as attempt,
        pgprog_engine._way_of(
          x.status, coalesce(i.task_id, c.task_id), coalesce(i.type, c.type), coalesce(i.status, c.status), c.created_at,
          coalesce(i.crashes, c.crashes), t.type, t.due_at, t.crashes, v_patience[x.space], v_max_crashes[x.space], v_now) as way
      from unnest(v_locked, v_statuses, v_spaces) as x(incarnation, status, space)
      left join lateral (
        select q.task_id, q.status, q.type, q.created_at, q.attempt, q.crashes from pgprog_data.queue as q
        where q.incarnation = x.incarnation and q.status in ('w', 'b', 'h')
        order by q.task_id limit 1
      ) as c on true
      -- Of a simple repair of a failed init: a call that drew its id before it waits behind it.
      left join lateral (
        select q.task_id, q.type, q.status, q.attempt, q.crashes from pgprog_data.queue as q
        where q.incarnation = x.incarnation and q.status in ('w', 'b', 'h') and q.type = 'init'
          and x.status = 'init' and c.type not in ('init', 'repair')
        order by q.task_id limit 1
      ) as i on true
      left join lateral (
        select
          t.name, t.type, t.task_id, t.due_at, t.attempt, t.crashes,
          bool_or(t.status = 'p' and t.due_at <= v_now - v_patience[x.space]) over () as is_left
        from pgprog_data.timers as t
        where t.incarnation = x.incarnation and t.due_at <= v_now and t.status <> 's'
        order by t.due_at limit 1
      ) as t on true
      left join lateral (
        select r.task_id from pgprog_data.queue as r
        where r.incarnation = x.incarnation and r.status = 'r' limit 1
      ) as r on true
      -- Due, but locked or too many to join the waiting ones in step 2, as timers may be: the next claim finds it waiting.
      left join lateral (
        select f.task_id from pgprog_data.queue as f
        where f.incarnation = x.incarnation and f.status = 'f' and f.due_at <= v_now limit 1
      ) as f on true
      where r.task_id is null
        and f.task_id is null
        and t.is_left is not true
        and x.space is not null
        and x.incarnation <> all (v_newer)
        and (x.status in ('init', 'running') or (x.status = 'error' and c.type = 'repair'))
      offset 0
    ) as h
    where h.way is not null;
    -- Mostly these are first attempts of tasks.
    v_timers := null;
    v_removals := null;
    v_poison := null;
    v_refused := null;
    v_again := null;
    if 'start' <> any (v_ways) or true = any (v_tried) then
      select
        array_agg(h.task_id) filter (where h.way = 'start'),
        array_agg(h.incarnation) filter (where h.way = 'start timer'),
        array_agg(h.timer) filter (where h.way = 'start timer'),
        array_agg(h.incarnation) filter (where h.way = 'remove'),
        array_agg(h.timer) filter (where h.way = 'remove'),
        array_agg(case h.way when 'break' then h.task_id when 'break timer' then h.timer_id end)
          filter (where h.way in ('break', 'break timer')),
        array_agg(h.task_id) filter (where h.way = 'refuse'),
        array_agg(h.incarnation) filter (where h.way = 'refuse'),
        array_agg(case h.way when 'start timer' then h.timer_id else h.task_id end) filter (where h.was_tried)
      into v_chosen, v_timers, v_timer_names, v_removals, v_removal_names, v_poison, v_refused, v_refused_in, v_again
      from unnest(v_ways, v_ins, v_chosen, v_names, v_timer_ids, v_tried)
        as h(way, incarnation, task_id, timer, timer_id, was_tried);
    end if;

    -- 7. Timers that remove do it here; what crashed too often breaks its process.
    if v_removals is not null then
      perform pgprog_engine._fire_removals(v_removals, v_removal_names, v_at);
    end if;
    if v_poison is not null then
      perform pgprog_engine._break_crashed(v_poison, v_at);
    end if;
    if v_refused is not null then
      perform pgprog_engine._cancel_queued(v_refused, 'process not in error', v_at);
      perform pgprog_engine._let_next_go(v_refused_in);
    end if;

    -- 8. Start them, and say which were lost with a worker before.
    v_lost := '{}';
    if v_again is not null then
      select coalesce(array_agg(a.task_id), '{}') into v_lost
      from pgprog_data.attempts as a
      where a.task_id = any (v_again)
        and a.outcome = 'lost';
    end if;
    return query
      update pgprog_data.queue as q
      set status = 'r', worker_id = claim.worker_id, claim_id = pgprog_engine._new_claim_id(),
        attempt = q.attempt + 1, started_at = v_at, begun = false
      from pgprog_data.processes as p
      where q.task_id = any (v_chosen)
        and p.incarnation = any (array[q.incarnation])
      returning
        q.task_id, q.claim_id, q.incarnation, p.namespace, p.process_id, q.type, q.name, q.attempt, q.created_at, q.due_at,
        q.args, q.context, p.status, p.state_version, p.state, p.metadata, p.last_event_id, p.version,
        q.attempt > 1 and (q.crashes > 0 or q.task_id = any (v_lost)),
        null::bigint;
    get diagnostics v_count = row_count;
    v_got := v_got + v_count;
    if v_timers is not null then
      return query
        with started as (
          select * from pgprog_engine._start_timers(claim.worker_id, v_timers, v_timer_names, v_at)
        )
        select
          s.task_id, s.claim_id, s.incarnation, p.namespace, p.process_id, s.type, s.name, s.attempt, s.created_at, s.due_at,
          s.args, s.context, p.status, p.state_version, p.state, p.metadata, p.last_event_id, p.version,
          s.attempt > 1 and (s.crashes > 0 or s.task_id = any (v_lost)),
          null::bigint
        from started as s
        join pgprog_data.processes as p on p.incarnation = any (array[s.incarnation]);
      get diagnostics v_count = row_count;
      v_got := v_got + v_count;
    end if;

    -- 9. Candidates left in processes that we hold wait behind a running or held task, or an init for later.
    if cardinality(v_candidates) > coalesce(cardinality(v_chosen), 0) then
      -- ::text and + 0: found by their ids alone.  With what fits queue_head an old plan walks all of that, and a
      -- new one before PostgreSQL 17 searches it for each pair of the arrays, 40 000 times for 200.
      update pgprog_data.queue as q
      set status = 'b'
      where q.task_id = any (v_candidates)
        and q.status::text = 'w'
        and q.incarnation + 0 = any (v_locked)
        and q.incarnation <> all (v_newer)
        and (
          exists (select 1 from pgprog_data.queue as r where r.incarnation = q.incarnation and r.status = 'r')
          or exists (
            select 1 from pgprog_data.queue as h
            where h.incarnation = q.incarnation and h.status in ('w', 'b', 'h') and h.status = 'h')
          or (q.type <> 'init' and exists (
            select 1 from pgprog_data.processes as p where p.incarnation = q.incarnation and p.status = 'init')));
      update pgprog_data.timers as t
      set status = case when b.running is null and b.status = 'h' and t.due_at < b.created_at then 'p' else 'b' end
      from (
        select x.incarnation, h.status, h.created_at, r.task_id as running
        from unnest(v_locked) as x(incarnation)
        left join lateral (
          select q.status, q.created_at from pgprog_data.queue as q
          where q.incarnation = x.incarnation and q.status in ('w', 'b', 'h')
          order by q.task_id limit 1
        ) as h on true
        left join lateral (
          select q.task_id from pgprog_data.queue as q
          where q.incarnation = x.incarnation and q.status = 'r' limit 1
        ) as r on true
        where x.incarnation <> all (v_newer)
          and (h.status is not null or r.task_id is not null)
      ) as b
      where t.incarnation = b.incarnation
        and t.status = 'w'
        and t.due_at <= v_now;
    end if;

    -- A repair that ended here has let the next task of its process go.
    v_freed := v_refused is not null or v_poison is not null;
    v_must_last := v_must_last or v_freed or v_removals is not null or v_timers is not null or v_gone is not null
      or coalesce(v_statuses && '{error,finished}', false);
    v_more := v_freed or cardinality(v_candidates) >= v_share or cardinality(v_locked) < cardinality(v_wanted);
    exit when v_got >= claim.max_tasks or (cardinality(v_candidates) < v_share and not v_freed);
    -- Rows of processes that we hold are blocked or running by now: only what is held elsewhere is passed by.
    if cardinality(v_locked) < cardinality(v_wanted) then
      select v_elsewhere || coalesce(array_agg(x.incarnation), '{}') into v_elsewhere
      from unnest(v_wanted) as x(incarnation)
      where x.incarnation <> all (v_locked);
    end if;
  end loop;

  -- A crash of the server may take back what was only started: the fence refuses its steps then.  What others
  -- are told of, or follow, waits for its flush as any commit does; and where nothing was started no completion would
  -- soon flush the end of the log, for which caches wait.
  if v_got > 0 and not v_must_last then
    v_setting := set_config('synchronous_commit', 'off', true);
  end if;

  -- 10. When to ask again, and where: what came due and was left is not passed by.
  if v_seen is null and (v_since, v_since_task) < (claim.since, claim.since_task) then
    v_seen := v_since;
    v_seen_task := v_since_task;
  end if;
  task_id := null;
  due_at := pgprog_engine._clock();
  attempt := greatest(0, least(extract(epoch from due_at - v_now), 1000)) * 1000000;
  created_at := v_seen;
  claim_id := v_seen_task;
  -- Later than the choice: what was asked for after a change of settings runs under it.
  select coalesce(sum(n.settings_version), 0) into version
  from pgprog_data.namespaces as n
  where n.namespace = any (v_reads_in);
  if v_more then
    wait_us := 0;
  else
    -- What is due in a paused namespace would have us ask at once, for ever.
    select min(d.due_at) into v_next
    from unnest(v_served) as s(namespace)
    join pgprog_data.namespaces as n on n.namespace = s.namespace and n.paused_at is null
    cross join lateral (
      (select q.due_at from pgprog_data.queue as q
       where q.namespace = s.namespace and q.status in ('f', 'h')
       order by q.due_at limit 1)
      union all
      (select t.due_at from pgprog_data.timers as t
       where t.namespace = s.namespace and t.status = 'w' and t.needs_version is null
         and t.due_at >= least(v_since, v_now)
       order by t.due_at limit 1)
      union all
      (select t.due_at + n.timer_patience from pgprog_data.timers as t
       where t.namespace = s.namespace and t.status = 'p'
       order by t.due_at limit 1)
    ) as d
    where s.namespace <> all (v_full);
    v_next := least(v_next, v_now + case when v_soon then interval '20 ms' else interval '1 day' end);
    wait_us := greatest(0, extract(epoch from v_next - pgprog_engine._now()) * 1000000);
  end if;
  return next;
end
$$;

comment on function pgprog_engine.claim(bigint, integer, text[], integer[], integer, timestamptz, bigint)
  is 'Claim due tasks for a worker, at most one of each process, with all a step needs';
