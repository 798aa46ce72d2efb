/*
 * End a task that has not started, as cancelled; return whether it was there to be cancelled.
 *
 * Its waiter is told.  Of an init the process is absent again and its calls are cancelled too; of a
 * timer it is as UnsetTimer; of a task that waits for its retry the process stays as it is.
 * Returns false for a task that runs or has ended.  Locks the process row, waiting for a completion
 * of that process.
 *
 * Raises UP010: the transaction is not read committed.  UP011: there is no such task.  UP015: its
 * namespace is for other roles.
 */
create or replace function pgprog.cancel(task_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_incarnation bigint;
  v_namespace text;
  v_type text;
  v_at timestamptz;
begin
  perform pgprog_engine._require_read_committed();
  select c.incarnation, c.namespace
  into v_incarnation, v_namespace
  from (
    select q.incarnation, q.namespace from pgprog_data.queue as q where q.task_id = cancel.task_id
    union all
    select t.incarnation, t.namespace from pgprog_data.timers as t where t.task_id = cancel.task_id
  ) as c;
  if not found then
    perform pgprog_engine._require_task(cancel.task_id);
    return false;
  end if;
  perform pgprog_engine._require_caller(v_namespace);

  perform 1 from pgprog_data.processes as p where p.incarnation = v_incarnation for no key update;
  v_at := pgprog_engine._clock();

  -- A later statement: the task may have started or ended while we waited for the process.
  select q.type into v_type
  from pgprog_data.queue as q
  where q.task_id = cancel.task_id
    and q.status <> 'r'
  for update;
  if v_type = 'init' then
    perform pgprog_engine._remove_processes(array[v_incarnation], 'cancelled', v_at);
    return true;
  end if;

  -- We hold the row, if it is there: it cannot start any more.
  if v_type is not null then
    perform pgprog_engine._cancel_queued(array[cancel.task_id], 'cancelled', v_at);
    perform pgprog_engine._let_next_go(array[v_incarnation]);
    return true;
  end if;

  perform pgprog_engine._cancel_timers(array[t.incarnation], array[t.name], 'cancelled', v_at)
  from pgprog_data.timers as t
  where t.task_id = cancel.task_id;
  if not found then
    return false;
  end if;
  -- A timer that its worker let go may have tasks blocked behind it.
  perform pgprog_engine._let_next_go(array[v_incarnation]);
  return true;
end
$$;

comment on function pgprog.cancel(bigint) is 'End a task that has not started, as cancelled; return whether it was there to be cancelled';
