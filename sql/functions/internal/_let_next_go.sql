/*
 * Let the next task of processes go whose running or held task was taken away without a successor.
 *
 * Turns the blocked head into waiting, and the blocked timers back to their times.  Behind a task that waits
 * for its retry they become patient instead, those that were due before it was made.  The caller holds the process rows and calls this in a statement later than the locks.
 */
create or replace function pgprog_engine._let_next_go(incarnations bigint[])
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
  with heads as (
    select x.incarnation, h.task_id, h.status, h.created_at
    from unnest(_let_next_go.incarnations) as x(incarnation)
    left join lateral (
      select q.task_id, q.status, q.created_at from pgprog_data.queue as q
      where q.incarnation = x.incarnation and q.status in ('w', 'b', 'h')
      order by q.task_id limit 1
    ) as h on true
    left join lateral (
      select q.task_id from pgprog_data.queue as q
      where q.incarnation = x.incarnation and q.status = 'r' limit 1
    ) as r on true
    where r.task_id is null
  ),
  freed as (
    update pgprog_data.queue as q
    set status = 'w'
    from heads
    where q.task_id = any (array[heads.task_id])
      and heads.status = 'b'  -- q is that row; with its own status a plan may walk the whole of queue_head
  )
  update pgprog_data.timers as t
  set status = case when heads.status = 'h' then 'p' else 'w' end
  from heads
  where t.incarnation = any (array[heads.incarnation])
    and t.status in ('b', 'p')
    and (heads.status is distinct from 'h' or (t.status = 'b' and t.due_at < heads.created_at));
end
$$;

comment on function pgprog_engine._let_next_go(bigint[]) is 'Let the next task of processes go that stand still';
