/*
 * List processes in error with what broke them, the longest broken first.
 *
 * error_type: the name of the error that was raised, as raised has it; it is known for task_retention.  detail_like: a pattern of
 * LIKE for the detail.  since: broken at this time or later.  null: any.  max_rows null: all.
 *
 * Index: ended_processes_by_time.  Raises UP007: no such namespace.
 */
create or replace function pgprog.broken_processes(
  namespace text, error_type text = null, detail_like text = null, since timestamptz = null, max_rows bigint = null,
  out process_id text, out broken_at timestamptz, out type text, out name text, out raised text,
  out detail text, out task_id bigint, out incarnation bigint)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  if not exists (select 1 from pgprog_data.namespaces as n where n.namespace = broken_processes.namespace) then
    raise exception '%', pgprog_engine._refusal('UP007', broken_processes.namespace, null, null) using errcode = 'UP007';
  end if;
  return query
    select p.process_id, e.at, e.type, e.name, t.error ->> 'error_type', p.detail, p.corrupted_by, p.incarnation
    from pgprog_data.ended_processes as e
    join pgprog_data.processes as p on p.incarnation = e.incarnation
    left join lateral (
      select t.error from pgprog_data.tasks as t
      -- Of one that was put in error the number is that of another database.
      where t.task_id = p.corrupted_by and t.incarnation = p.incarnation limit 1
    ) as t on true
    where e.namespace = broken_processes.namespace
      and e.status = 'error'
      and (broken_processes.since is null or e.at >= broken_processes.since)
      and (broken_processes.detail_like is null or p.detail like broken_processes.detail_like)
      and (broken_processes.error_type is null or t.error ->> 'error_type' = broken_processes.error_type)
    order by e.at, p.incarnation
    limit broken_processes.max_rows;
end
$$;

comment on function pgprog.broken_processes(text, text, text, timestamptz, bigint)
  is 'List processes in error with what broke them, the longest broken first';
