/*
 * End every open task of these incarnations as cancelled, with its cause.
 *
 * The caller holds their process rows, or has deleted them.  Repairs stay while the process is in
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
  with dead as (
    select q.task_id
    from unnest(_end_tasks.incarnations) as x(incarnation)
    cross join lateral (
      (select h.task_id, h.type from pgprog_data.queue as h
       where h.incarnation = x.incarnation and h.status in ('w', 'b', 'h'))
      union all
      (select f.task_id, f.type from pgprog_data.queue as f
       where f.incarnation = x.incarnation and f.status = 'f')
    ) as c
    join pgprog_data.queue as q on q.task_id = c.task_id
    where c.type <> 'repair'
      or (select p.status from pgprog_data.processes as p where p.incarnation = x.incarnation) is distinct from 'error'
    order by q.task_id
    for update of q skip locked
  ),
  gone as (
    delete from pgprog_data.queue as q
    using dead
    where q.task_id = dead.task_id
      and q.status <> 'r'
    returning q.*
  )
  insert into pgprog_data.tasks (
    task_id, namespace, process_id, incarnation, type, name, status, priority, attempt, crashes,
    due_at, created_at, ended_at, key, args, context, error)
  select
    g.task_id, g.namespace, g.process_id, g.incarnation, g.type, g.name, 'cancelled', g.priority, g.attempt, g.crashes,
    g.due_at, g.created_at, _end_tasks.at, g.key, g.args, g.context, jsonb_build_object('cause', _end_tasks.cause)
  from gone as g;
end
$$;

comment on function pgprog_engine._end_tasks(bigint[], text, timestamptz)
  is 'End every open task of these incarnations as cancelled, with its cause';
