/*
 * Return the traceparent of the first attempt of a task that has told one, null where none has.
 *
 * Asked by workers that trace, before a further attempt: its span links to that of the first.
 * Takes no lock.  Index: attempts_by_task.
 */
create or replace function pgprog_engine.first_trace(task_id bigint)
returns text
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select a.error ->> 'traceparent'
  from pgprog_data.attempts as a
  where a.task_id = first_trace.task_id
    and a.error ->> 'traceparent' is not null
  order by a.claim_id
  limit 1
$$;

comment on function pgprog_engine.first_trace(bigint)
  is 'The traceparent of the first attempt of a task that has told one, null where none has';
