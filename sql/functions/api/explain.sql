/*
 * Name the one reason why a process is not moving, with a sentence and its details.
 *
 * reason is one of: nothing to do, ready, running, blocked, retry, timer, later, error, crashed, paused,
 * no worker, limit, locked.  details.runnable is true exactly when a claim of a worker that serves the
 * namespace and reads the process's state would take a task of the process; the other details are ids and
 * times.  Where nothing is due yet, the sentence also names an open transaction that may have asked for
 * something.  Reads only.
 *
 * Raises UP001: no such process.  UP007: no such namespace.
 */
create or replace function pgprog.explain(namespace text, process_id text)
returns table (reason text, sentence text, details jsonb)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_incarnation bigint := pgprog_engine._find_process(explain.namespace, explain.process_id);
  v_now timestamptz := pgprog_engine._now();
  v_p pgprog_data.processes;
  v_n pgprog_data.namespaces;
  v_running record;
  v_task record;
  v_timer record;
  v_next record;
  v_way text;
  v_running_here bigint;
  v_locker record;
  v_stopper record;
  v_open record;
  v_behind bigint;
  v_waits text;
  v_paused_by text;
begin
  select p.* into v_p from pgprog_data.processes as p where p.incarnation = v_incarnation;
  select n.* into v_n from pgprog_data.namespaces as n where n.namespace = v_p.namespace;
  select
    q.task_id, q.type, q.name, q.attempt, q.started_at, coalesce(w.name, q.worker_id::text) as worker,
    coalesce(w.lease_until, '-infinity') as lease_until
  into v_running
  from pgprog_data.queue as q
  left join pgprog_data.workers as w on w.worker_id = q.worker_id
  where q.incarnation = v_incarnation and q.status = 'r';
  -- The first task as a claim sees it, once it has turned what is due into waiting and ended what can never run.
  select
    q.task_id, q.type, q.name, q.attempt, q.crashes, q.created_at, q.due_at,
    case when q.status = 'h' and q.due_at <= v_now then 'w' else q.status end as status
  into v_task
  from pgprog_data.queue as q
  where q.incarnation = v_incarnation
    and (q.status in ('w', 'b', 'h') or (q.status = 'f' and q.due_at <= v_now))
    and (q.type = 'repair') = (v_p.status = 'error')
    and v_p.status <> 'finished'
  order by (v_p.status = 'init' and q.type <> 'init'), q.task_id
  limit 1;
  select t.name, t.type, t.task_id, t.due_at, t.crashes, t.attempt
  into v_timer
  from pgprog_data.timers as t
  where t.incarnation = v_incarnation and t.status <> 's'
  order by t.due_at, t.task_id
  limit 1;
  select q.task_id, q.type, q.due_at
  into v_next
  from pgprog_data.queue as q
  where q.incarnation = v_incarnation and q.status = 'f' and q.due_at > v_now
  order by (v_p.status = 'init' and q.type <> 'init'), q.due_at, q.task_id
  limit 1;
  v_way := case when v_running.task_id is null then pgprog_engine._way_of(
    v_p.status, v_task.task_id, v_task.type, v_task.status, v_task.created_at, v_task.crashes,
    v_timer.type, case when v_timer.due_at <= v_now then v_timer.due_at end, v_timer.crashes,
    v_n.timer_patience, v_n.max_crashes, v_now) end;
  select count(*) into v_running_here
  from pgprog_data.queue as q
  where q.status = 'r' and q.namespace = v_p.namespace;
  select count(*) into v_behind
  from pgprog_data.queue as q
  where q.incarnation = v_incarnation
    and q.status in ('w', 'b')
    and q.task_id <> coalesce(v_running.task_id, v_task.task_id);
  select l.pid, l.since into v_locker from pgprog_engine._locker_of(v_incarnation) as l;

  if v_running.task_id is not null then
    reason := 'running';
    sentence := format('%s %s runs on worker %s since %s', v_running.type, v_running.task_id, v_running.worker, v_running.started_at)
      || case when v_running.lease_until < pgprog_engine._clock()
        then '; the worker''s lease has ended: the collector of a live worker frees the task' else '' end
      || case when v_locker.pid is not null
        then format('; session %s holds the process in a transaction open since %s: the step cannot end before', v_locker.pid, v_locker.since)
        else '' end;
    details := jsonb_build_object(
      'task_id', v_running.task_id, 'type', v_running.type, 'name', v_running.name, 'attempt', v_running.attempt,
      'worker', v_running.worker, 'started_at', v_running.started_at);
  elsif v_p.status = 'error' and v_task.task_id is null then
    reason := 'error';
    sentence := format('in error since %s%s: %s',
      v_p.status_changed_at, ' by task ' || v_p.corrupted_by, coalesce(v_p.detail, 'no detail given'));
    details := jsonb_build_object('since', v_p.status_changed_at, 'task_id', v_p.corrupted_by, 'detail', v_p.detail);
  elsif v_p.status = 'finished' then
    reason := 'nothing to do';
    sentence := format('finished since %s', v_p.status_changed_at);
    details := jsonb_build_object('since', v_p.status_changed_at);
  elsif v_task.status = 'h' and v_way is null then
    reason := 'retry';
    sentence := format('%s %s has its attempt %s of %s at %s',
      v_task.type, v_task.task_id, v_task.attempt + 1,
      greatest(pgprog_engine._max_attempts(v_n.settings, v_task.type), v_task.attempt + 1), v_task.due_at);
    details := jsonb_build_object('task_id', v_task.task_id, 'attempt', v_task.attempt + 1, 'at', v_task.due_at);
  elsif v_p.status = 'init' and v_way is null and v_task.task_id is not null then
    reason := 'blocked';
    sentence := format('%s %s is blocked by init %s, which is due at %s', v_task.type, v_task.task_id, v_next.task_id, v_next.due_at);
    details := jsonb_build_object('task_id', v_task.task_id, 'blocked_by', v_next.task_id, 'at', v_next.due_at);
  elsif v_way is null and v_next.due_at <= coalesce(v_timer.due_at, 'infinity') then
    reason := 'later';
    sentence := format('%s %s is due at %s', v_next.type, v_next.task_id, v_next.due_at);
    details := jsonb_build_object('task_id', v_next.task_id, 'at', v_next.due_at);
  elsif v_way is null and v_timer.task_id is not null then
    reason := case when v_timer.attempt > 0 then 'retry' else 'timer' end;
    sentence := case when v_timer.attempt > 0
      then format('timer %s has its attempt %s of %s at %s', quote_literal(v_timer.name), v_timer.attempt + 1,
        greatest(pgprog_engine._max_attempts(v_n.settings, v_timer.type), v_timer.attempt + 1), v_timer.due_at)
      else format('timer %s is due at %s', quote_literal(v_timer.name), v_timer.due_at) end;
    details := jsonb_build_object(
      'task_id', v_timer.task_id, 'name', v_timer.name, 'attempt', v_timer.attempt + 1, 'at', v_timer.due_at);
  elsif v_way is null then
    reason := 'nothing to do';
    sentence := 'no task and no timer waits';
    details := '{}';
  else
    details := case when v_way in ('start', 'break')
      then jsonb_build_object('task_id', v_task.task_id, 'type', v_task.type, 'name', v_task.name)
      else jsonb_build_object('task_id', v_timer.task_id, 'type', v_timer.type, 'name', v_timer.name) end;
    v_waits := format('; %s %s waits since %s', details ->> 'type', details ->> 'task_id',
      case when v_way in ('start', 'break') then v_task.due_at else v_timer.due_at end);
    select s.pid, a.xact_start as since into v_stopper
    from pgprog_engine._stoppers() as s
    left join pg_catalog.pg_stat_activity as a on a.pid = s.pid
    where s.namespace = v_p.namespace
      and s.pid <> pg_backend_pid()
      -- A worker's completion that pauses does so for a moment.
      and (a.state is null or a.state like 'idle in transaction%' or a.xact_start < pgprog_engine._clock() - interval '1 s')
    order by s.granted desc, a.xact_start
    limit 1;
    if v_n.paused_at is not null then
      reason := 'paused';
      select n.paused_by into v_paused_by from pgprog.namespaces as n where n.namespace = v_p.namespace;
      sentence := format('namespace %s is paused since %s%s: %s',
        v_p.namespace, v_n.paused_at, ' by ' || v_paused_by, coalesce(v_n.pause_reason, 'no reason given'))
        || v_waits;
      details := details || jsonb_build_object(
        'since', v_n.paused_at, 'paused_by', v_paused_by, 'pause_reason', v_n.pause_reason);
    elsif not exists (
      select 1 from pgprog_data.workers as w
      where v_p.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock())
    then
      reason := 'no worker';
      sentence := format('no live worker serves namespace %s', v_p.namespace) || v_waits;
    elsif not exists (
      select 1 from pgprog_data.workers as w
      where v_p.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()
        and v_p.state_version <= pgprog_engine._version_read(v_p.namespace, w.namespaces, w.state_versions))
    then
      reason := 'no worker';
      sentence := format('no live worker serves namespace %s at version %s', v_p.namespace, v_p.state_version) || v_waits;
      details := details || jsonb_build_object('state_version', v_p.state_version);
    elsif v_running_here >= v_n.concurrency then
      reason := 'limit';
      sentence := format('namespace %s is at its limit: %s of %s tasks run', v_p.namespace, v_running_here, v_n.concurrency)
        || v_waits;
      details := details || jsonb_build_object('running', v_running_here, 'concurrency', v_n.concurrency);
    elsif v_locker.pid is not null then
      reason := 'locked';
      sentence := format('session %s holds the process in a transaction open since %s', v_locker.pid, v_locker.since) || v_waits;
      details := details || jsonb_build_object('pid', v_locker.pid, 'since', v_locker.since);
    elsif v_stopper.pid is not null then
      reason := 'locked';
      sentence := format('session %s pauses or resumes namespace %s in a transaction open since %s: nothing starts there until it ends',
        v_stopper.pid, v_p.namespace, coalesce(v_stopper.since::text, 'a time that is hidden')) || v_waits;
      details := details || jsonb_build_object('pid', v_stopper.pid, 'since', v_stopper.since);
    elsif v_way in ('break', 'break timer') then
      reason := 'crashed';
      sentence := format('%s %s crashed its workers %s times, the next claim ends it',
        details ->> 'type', details ->> 'task_id', v_n.max_crashes);
    else
      reason := 'ready';
      sentence := format('%s %s is due, the next claim takes it', details ->> 'type', details ->> 'task_id');
    end if;
  end if;
  if reason in ('running', 'retry') and v_behind > 0 then
    sentence := sentence || format('; %s %s behind it', v_behind, case when v_behind = 1 then 'task waits' else 'tasks wait' end);
    details := details || jsonb_build_object('behind', v_behind);
  elsif reason in ('nothing to do', 'timer', 'later') and v_p.status <> 'finished' then
    select o.pid, o.since into v_open from pgprog_engine._open_transactions() as o limit 1;
    if v_open.pid is not null then
      sentence := sentence || format(
        '; session %s wrote to the queue in a transaction open since %s: what it asked for counts from its commit',
        v_open.pid, v_open.since);
      details := details || jsonb_build_object('pid', v_open.pid, 'open_since', v_open.since);
    end if;
  end if;
  details := details || jsonb_build_object('runnable', reason = 'ready');
  return next;
end
$$;

comment on function pgprog.explain(text, text) is 'The one reason why a process is not moving, with a sentence and its details';
