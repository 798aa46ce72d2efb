/*
 * Count what ended in each namespace within the last span, as far as the last max_tasks tasks tell.
 *
 * The last by their ids, so that an index finds them.  seconds: the time that the count is of, shorter than
 * span where all of those tasks ended within it.
 */
create or replace function pgprog.inspect_rates(span interval = '10 s', max_tasks integer = 2000)
returns table (namespace text, ended bigint, failed bigint, seconds double precision)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
begin
  return query
    with latest as (
      select t.namespace, t.status, t.ended_at from pgprog_data.tasks as t
      order by t.task_id desc limit inspect_rates.max_tasks
    ),
    seen as (
      select case when count(*) < inspect_rates.max_tasks then inspect_rates.span
        else least(inspect_rates.span, v_now - min(l.ended_at)) end as span
      from latest as l
    )
    select
      l.namespace, count(*), count(*) filter (where l.status = 'error'),
      greatest(extract(epoch from min(s.span))::double precision, 0.001)
    from latest as l, seen as s
    where l.ended_at > v_now - s.span
    group by l.namespace;
end
$$;

comment on function pgprog.inspect_rates(interval, integer) is 'How many tasks of each namespace ended lately; for pgprog top';
