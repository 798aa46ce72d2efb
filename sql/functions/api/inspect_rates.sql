/*
 * Count what ended in each namespace within the last span, or in its last tenth where more than max_tasks ended in it.
 *
 * seconds: the time that the count is of.  By the time of the end, for ids say when a task was asked for: a timer is
 * as old as its setting, and a backlog has lower ids than what ended before it.
 * Indexes: tasks_by_time, the only one that bitmap scans can use.
 */
create or replace function pgprog.inspect_rates(span interval = '10 s', max_tasks integer = 2000)
returns table (namespace text, ended bigint, failed bigint, seconds double precision)
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
  v_span interval := inspect_rates.span;
begin
  if (
    select count(*) from (
      select 1 from pgprog_data.tasks as t where t.ended_at > v_now - v_span limit inspect_rates.max_tasks + 1
    ) as x
  ) > inspect_rates.max_tasks then
    v_span := v_span / 10;
  end if;
  return query
    select
      t.namespace, count(*), count(*) filter (where t.status = 'error'),
      greatest(extract(epoch from v_span)::double precision, 0.001)
    from pgprog_data.tasks as t
    where t.ended_at > v_now - v_span
    group by t.namespace;
end
$$;

comment on function pgprog.inspect_rates(interval, integer) is 'How many tasks of each namespace ended lately; for pgprog top';
