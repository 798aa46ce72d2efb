/*
 * Cancel timers by incarnation and name; each ends as a cancelled task with its cause.
 *
 * A null name means all timers of that incarnation.  The caller holds the process rows.
 */
create or replace function pgprog_engine._cancel_timers(
  incarnations bigint[], names text[], cause text, at timestamptz)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  with gone as (
    delete from pgprog_data.timers as t
    using (
      select c.incarnation, c.name
      from unnest(_cancel_timers.incarnations, _cancel_timers.names) as x(incarnation, name)
      cross join lateral (
        select t.incarnation, t.name from pgprog_data.timers as t
        where t.incarnation = any (array[x.incarnation]) and (x.name is null or t.name = x.name)
      ) as c
    ) as dead
    where t.incarnation = any (array[dead.incarnation])
      and t.name = dead.name
    returning t.*
  )
  insert into pgprog_data.tasks (
    task_id, namespace, process_id, incarnation, type, name, status, attempt, crashes,
    due_at, created_at, ended_at, context, error)
  select
    g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 'cancelled', g.attempt, g.crashes,
    g.due_at, g.created_at, _cancel_timers.at, g.context, jsonb_build_object('cause', _cancel_timers.cause)
  from gone as g;
end
$$;

comment on function pgprog_engine._cancel_timers(bigint[], text[], text, timestamptz)
  is 'Cancel timers by incarnation and name; each ends as a cancelled task with its cause';
