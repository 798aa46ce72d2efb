/*
 * Erase events and ended tasks of processes that were removed before a time, at most max_rows of each; return how
 * many rows.
 *
 * The note of a removal goes with the last of them.
 */
create or replace function pgprog_engine._erase_removed(namespace text, before timestamptz, max_rows integer)
returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  v_incarnations bigint[];
  v_task_ids bigint[];
  v_events bigint;
  v_removals bigint;
begin
  select array_agg(r.incarnation) into v_incarnations
  from (
    select r.incarnation from pgprog_data.removals as r
    where r.namespace = _erase_removed.namespace and r.removed_at < _erase_removed.before
    order by r.removed_at limit _erase_removed.max_rows
  ) as r;
  if v_incarnations is null then
    return 0;
  end if;
  delete from pgprog_data.events as e
  using (
    select v.incarnation, v.event_id
    from unnest(v_incarnations) as x(incarnation)
    join pgprog_data.events as v on v.incarnation = x.incarnation
    limit _erase_removed.max_rows
  ) as v
  where e.incarnation = v.incarnation and e.event_id = v.event_id;
  get diagnostics v_events = row_count;
  select array_agg(t.task_id) into v_task_ids
  from (
    select t.task_id
    from unnest(v_incarnations) as x(incarnation)
    join pgprog_data.tasks as t on t.incarnation = x.incarnation
    limit _erase_removed.max_rows
  ) as t;
  delete from pgprog_data.removals as r
  where r.incarnation = any (v_incarnations)
    and not exists (select 1 from pgprog_data.events as e where e.incarnation = r.incarnation)
    and not exists (
      select 1 from pgprog_data.tasks as t where t.incarnation = r.incarnation and t.task_id <> all (coalesce(v_task_ids, '{}')));
  get diagnostics v_removals = row_count;
  return v_events + v_removals + pgprog_engine._erase_tasks(v_task_ids);
end
$$;

comment on function pgprog_engine._erase_removed(text, timestamptz, integer)
  is 'Erase events and ended tasks of processes that were removed before a time; return how many rows';
