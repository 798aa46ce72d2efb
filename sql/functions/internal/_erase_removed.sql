/*
 * Erase events and ended tasks of processes that were removed before a time, at most max_rows of each; return how
 * many rows.
 *
 * The note of a removal goes with the last of them.
 */
create or replace function pgprog_engine._erase_removed(namespace text, before timestamptz, max_rows integer)
returns bigint
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_incarnations bigint[] := array(
    select r.incarnation from pgprog_data.removals as r
    where r.namespace = _erase_removed.namespace and r.removed_at < _erase_removed.before
    order by r.removed_at limit _erase_removed.max_rows);
  v_events bigint;
  v_tasks bigint;
  v_removals bigint;
begin
  delete from pgprog_data.events as e
  where e.ctid = any (array(
    select o.ctid from pgprog_data.events as o where o.incarnation = any (v_incarnations) limit _erase_removed.max_rows));
  get diagnostics v_events = row_count;
  v_tasks := pgprog_engine._erase_tasks(array(
    select t.task_id from pgprog_data.tasks as t where t.incarnation = any (v_incarnations) limit _erase_removed.max_rows));
  -- With limits: no join, which might walk a table for each of the removals.
  delete from pgprog_data.removals as r
  where r.incarnation = any (v_incarnations)
    and (select e.event_id from pgprog_data.events as e where e.incarnation = r.incarnation limit 1) is null
    and (select t.task_id from pgprog_data.tasks as t where t.incarnation = r.incarnation limit 1) is null;
  get diagnostics v_removals = row_count;
  return v_events + v_tasks + v_removals;
end
$$;

comment on function pgprog_engine._erase_removed(text, timestamptz, integer)
  is 'Erase events and ended tasks of processes that were removed before a time; return how many rows';
