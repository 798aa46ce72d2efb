/*
 * Count the tasks of a namespace that were tried in a period, and those of which an attempt failed; no row unless
 * there are 20 at least and the share that failed is greater than *above*.
 *
 * Tried is what began and ended in the period; a task counts once, however often it was tried, so that one that
 * nobody can do is no rising rate.  Attempts lost with their worker are left out: a deployment kills workers and
 * changes settings at once.  Those that finished are counted as far as it takes to know.
 * Indexes: tasks_in_error, attempts_by_namespace, tasks_by_time.
 */
create or replace function pgprog_engine._failing(
  namespace text, starts_at timestamptz, ends_at timestamptz, above double precision)
returns table (failed bigint, tasks bigint)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_failed bigint[] := array(
    select t.task_id from pgprog_data.tasks as t
    where t.namespace = _failing.namespace
      and t.status = 'error'
      and t.ended_at >= _failing.starts_at and t.ended_at < _failing.ends_at
      and t.started_at >= _failing.starts_at
    union
    select a.task_id from pgprog_data.attempts as a
    where a.namespace = _failing.namespace
      and a.outcome = 'retry'
      and a.ended_at >= _failing.starts_at and a.ended_at < _failing.ends_at
      and a.started_at >= _failing.starts_at);
  v_finished bigint;
begin
  if cardinality(v_failed) <= 20 * _failing.above then
    return;
  end if;
  select count(*) into v_finished
  from (
    select 1 from pgprog_data.tasks as t
    where t.namespace = _failing.namespace
      and t.status = 'finished'
      and t.ended_at >= _failing.starts_at and t.ended_at < _failing.ends_at
      and t.started_at >= _failing.starts_at
      and not exists (select 1 from unnest(v_failed) as f(task_id) where f.task_id = t.task_id)
    limit case when _failing.above > 0 then least(ceil(cardinality(v_failed) / _failing.above), 1e18) end
  ) as f;
  return query
    select cardinality(v_failed)::bigint, cardinality(v_failed) + v_finished
    where cardinality(v_failed) + v_finished >= 20
      and cardinality(v_failed) > _failing.above * (cardinality(v_failed) + v_finished);
end
$$;

comment on function pgprog_engine._failing(text, timestamptz, timestamptz, double precision)
  is 'Count the tasks of a namespace that were tried in a period and those that failed, where these are too many';
