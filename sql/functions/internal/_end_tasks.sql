/*
 * End every open task of these incarnations as cancelled, with its cause.
 *
 * A null cause is what became of each process: removed, finished, or broken and by what.  The caller holds their process rows, or has deleted them.  Repairs stay while the process is in
 * error; running tasks stay, their own completion ends them.  Rows locked elsewhere (a claim that
 * lets a task become due) are passed by: the claim ends them when it meets them.
 */
create or replace function pgprog_engine._end_tasks(incarnations bigint[], cause text, at timestamptz)
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
  perform pgprog_engine._cancel_queued(array_agg(dead.task_id), coalesce(_end_tasks.cause, dead.cause), _end_tasks.at)
  from (
    select
      q.task_id,
      case p.status
        when 'error' then 'process broken' || coalesce(': ' || left(p.detail, 500), '')
        when 'finished' then 'process finished'
        else 'removed'
      end as cause
    from unnest(_end_tasks.incarnations) as x(incarnation)
    cross join lateral (
      (select h.task_id, h.type from pgprog_data.queue as h
       where h.incarnation = x.incarnation and h.status in ('w', 'b', 'h'))
      union all
      (select f.task_id, f.type from pgprog_data.queue as f
       where f.incarnation = x.incarnation and f.status = 'f')
    ) as c
    join pgprog_data.queue as q on q.task_id = any (array[c.task_id])
    left join pgprog_data.processes as p on p.incarnation = any (array[x.incarnation])
    where q.status <> 'r'
      and (c.type <> 'repair' or p.status is distinct from 'error')
    order by q.task_id
    for update of q skip locked
  ) as dead
  group by coalesce(_end_tasks.cause, dead.cause);
end
$$;

comment on function pgprog_engine._end_tasks(bigint[], text, timestamptz)
  is 'End every open task of these incarnations as cancelled, with its cause';
