/*
 * Return where a task is and, once it has ended, its answer: {"status", "response", "error", "version"}.
 *
 * error is {"rejected": payload} of a finished task that was rejected, {"error_type", "detail",
 * "attempt"} of one in error, {"cause"} of one cancelled.
 *
 * Raises UP011: no such task, or it ended longer ago than task_retention.  UP015: its namespace is for other roles.
 */
create or replace function pgprog.result(task_id bigint)
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_result jsonb;
begin
  select jsonb_build_object('status', r.status, 'response', r.response, 'error', r.error, 'version', r.version)
  into v_result
  from (
    select t.namespace, t.status, t.response, t.error, t.version
    from pgprog_data.tasks as t where t.task_id = result.task_id
    union all
    select q.namespace, pgprog_engine._status_of(q.status), null, null, null
    from pgprog_data.queue as q where q.task_id = result.task_id
    union all
    select t.namespace, pgprog_engine._status_of(t.status), null, null, null
    from pgprog_data.timers as t where t.task_id = result.task_id
  ) as r
  where pgprog_engine._may_read(r.namespace);
  if not found then
    perform pgprog_engine._require_task(result.task_id);
  end if;
  return v_result;
end
$$;

comment on function pgprog.result(bigint) is 'Where a task is and, once it has ended, its answer';
