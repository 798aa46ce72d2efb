/*
 * Return the results of those of these tasks that have ended; the others have no row.
 *
 * Nor have those of namespaces that are for other roles.  For clients that wait for many at once.
 */
create or replace function pgprog.results(task_ids bigint[])
returns table (task_id bigint, status text, response jsonb, error jsonb, version bigint)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  return query
    select t.task_id, t.status, t.response, t.error, t.version
    from unnest(results.task_ids) as x(task_id)
    join pgprog_data.tasks as t on t.task_id = any (array[x.task_id])
    where t.namespace <> all (array(
      select n.namespace from pgprog_data.namespaces as n
      where n.roles is not null
        and not pgprog_engine._may_use(n.roles, '{pgprog_operator,pgprog_worker,pgprog_payload_viewer}')));
end
$$;

comment on function pgprog.results(bigint[]) is 'The results of those of these tasks that have ended';
