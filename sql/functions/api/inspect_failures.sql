/*
 * Count, of the last max_tasks tasks that ended within an hour, how many of each namespace failed and by what.
 *
 * The last by their ids, so that an index finds them.  error_type and detail are those of the most frequent
 * error.
 */
create or replace function pgprog.inspect_failures(max_tasks integer = 1000)
returns table (namespace text, ended bigint, failed bigint, error_type text, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    with latest as (
      select t.namespace, t.status, t.ended_at, t.error from pgprog_data.tasks as t
      order by t.task_id desc limit inspect_failures.max_tasks
    )
    select
      x.namespace, count(*), count(*) filter (where x.status = 'error'),
      mode() within group (order by x.error ->> 'error_type') filter (where x.status = 'error'),
      mode() within group (order by x.error ->> 'detail') filter (where x.status = 'error')
    from latest as x
    where x.ended_at > pgprog_engine._now() - interval '1 h'
      and x.status <> 'cancelled'
    group by x.namespace;
end
$$;

comment on function pgprog.inspect_failures(integer) is 'How many of the latest tasks failed, and by what; for pgprog doctor';
