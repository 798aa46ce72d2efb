/*
 * Count, of the tasks that ended lately, how many of each namespace failed and by what.
 *
 * Lately: the longest of an hour, ten minutes, a minute and ten seconds in which no more than max_tasks ended, ten
 * seconds at least.  By the time of the end, not by ids: those of timers are as old as their setting.  error_type and
 * detail are those of the most frequent error.
 * Indexes: tasks_by_time, the only one that bitmap scans can use.
 */
create or replace function pgprog.inspect_failures(max_tasks integer = 1000)
returns table (namespace text, ended bigint, failed bigint, error_type text, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set enable_seqscan = off
set enable_indexscan = off
set enable_indexonlyscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
  v_span interval;
begin
  foreach v_span in array array['1 h', '10 min', '1 min', '10 s']::interval[] loop
    exit when (
      select count(*) from (
        select 1 from pgprog_data.tasks as t where t.ended_at > v_now - v_span limit inspect_failures.max_tasks + 1
      ) as x
    ) <= inspect_failures.max_tasks;
  end loop;
  return query
    select
      t.namespace, count(*), count(*) filter (where t.status = 'error'),
      mode() within group (order by t.error ->> 'error_type') filter (where t.status = 'error'),
      mode() within group (order by t.error ->> 'detail') filter (where t.status = 'error')
    from pgprog_data.tasks as t
    where t.ended_at > v_now - v_span
      and t.status <> 'cancelled'
    group by t.namespace;
end
$$;

comment on function pgprog.inspect_failures(integer) is 'How many of the latest tasks failed, and by what; for pgprog doctor';
