/*
 * Mend a process in error without repair code: what failed is tried again; return the new task.
 *
 * The process goes back to the status it had and its suspended timers come back.  A failed init,
 * notify, timeout or remove is queued again as a new task with the same name, args, context and
 * priority, without a key; the old one stays in error.  After a failed call there is no new task and
 * null is returned.  Repairs of the process that wait or run end as cancelled, not in error.
 * Repeated with the same idempotency_key it returns the same.
 *
 * Locks the process row, waiting for a completion of that process.
 * Raises UP001: no such process.  UP003: it is not in error.  UP007: no such namespace.  UP008: the
 * key belongs to another request.  UP010: the transaction is not read committed, or a value is out
 * of its range.  UP011: what broke it is not known here, since it was put in error.
 */
create or replace function pgprog.simple_repair(namespace text, process_id text, idempotency_key text = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  -- Of a key whose request made no task: no task has this number.
  k_no_task constant bigint := 0;
  v_process pgprog_data.processes;
  v_failed pgprog_data.ended_processes;
  v_task_id bigint;
  v_holder bigint;
  v_at timestamptz;
begin
  perform pgprog_engine._require_read_committed();
  perform pgprog_engine._require_request(simple_repair.namespace, simple_repair.process_id, simple_repair.idempotency_key);
  v_task_id := nextval('pgprog_data.task_ids');
  if simple_repair.idempotency_key is not null then
    v_holder := pgprog_engine._take_key(
      simple_repair.namespace, simple_repair.idempotency_key, v_task_id,
      pgprog_engine._fingerprint('simple_repair', null, simple_repair.process_id, null), simple_repair.process_id);
    if v_holder <> v_task_id then
      return nullif(v_holder, k_no_task);
    end if;
  end if;

  perform pgprog_engine._find_process(simple_repair.namespace, simple_repair.process_id);
  select p.* into v_process
  from pgprog_data.processes as p
  where p.namespace = simple_repair.namespace
    and p.process_id = simple_repair.process_id
  for no key update;
  if v_process.status is distinct from 'error' then
    raise exception '%', pgprog_engine._refusal(
      case when v_process.status is null then 'UP001' else 'UP003' end,
      simple_repair.namespace, simple_repair.process_id, v_process.status)
      using errcode = case when v_process.status is null then 'UP001' else 'UP003' end;
  end if;
  select e.* into v_failed
  from pgprog_data.ended_processes as e
  where e.incarnation = v_process.incarnation;
  if v_failed.type is null then
    raise exception 'task % that broke process % in namespace % is not known here',
      v_process.corrupted_by, simple_repair.process_id, simple_repair.namespace
      using errcode = 'UP011', hint = 'repair it with the repair handler of its namespace';
  end if;
  v_at := pgprog_engine._clock();

  -- Later statements: what was asked of the process while we waited for it.
  perform pgprog_engine._cancel_queued(array_agg(q.task_id), 'process not in error', v_at)
  from (
    select h.task_id, h.type from pgprog_data.queue as h
    where h.incarnation = v_process.incarnation and h.status in ('w', 'b', 'h')
    union all
    select r.task_id, r.type from pgprog_data.queue as r
    where r.incarnation = v_process.incarnation and r.status = 'r'
  ) as q
  where q.type = 'repair'
  having count(*) > 0;
  perform pgprog_engine._restore_timers(array[v_process.incarnation], null, v_at);
  delete from pgprog_data.ended_processes as e where e.incarnation = v_process.incarnation;
  update pgprog_data.processes as p
  set status = v_process.previous_status, previous_status = 'error', status_changed_at = greatest(v_at, p.changed_at),
    changed_at = greatest(v_at, p.changed_at), version = nextval('pgprog_data.versions'), detail = null, corrupted_by = null
  where p.incarnation = v_process.incarnation;
  perform pgprog_engine._audit(
    'simple_repair', v_process.namespace, v_process.process_id, case when v_failed.type <> 'call' then v_task_id end,
    jsonb_build_object('type', v_failed.type, 'name', v_failed.name, 'failed_task', v_process.corrupted_by), null);

  if v_failed.type in ('timeout', 'remove') then
    insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, due_at, created_at, context)
    values (
      v_process.incarnation, coalesce(v_failed.name, ''), v_task_id, v_process.namespace, v_process.process_id, v_failed.type,
      v_at, v_at, v_failed.context);
  elsif v_failed.type in ('init', 'notify') then
    insert into pgprog_data.queue (
      task_id, namespace, process_id, incarnation, type, name, status, priority, due_at, rank, created_at, args, context)
    values (
      v_task_id, v_process.namespace, v_process.process_id, v_process.incarnation, v_failed.type, v_failed.name, 'w',
      v_failed.priority, v_at, v_at - v_failed.priority * interval '10 s', v_at, v_failed.args, v_failed.context);
  else
    update pgprog_data.keys as k
    set task_id = k_no_task
    where k.namespace = simple_repair.namespace
      and k.key = simple_repair.idempotency_key;
    return null;
  end if;
  return v_task_id;
end
$$;

comment on function pgprog.simple_repair(text, text, text)
  is 'Mend a process in error without repair code: what failed is tried again; return the new task';
