/*
 * Return tasks in a state that the engine never leaves behind: at most max_rows of each fault.
 *
 * stuck: blocked, but nothing runs or waits before them, no timer is due, as one that its worker let go, nor is there
 * an init for later: nothing lets them go.  lost: due
 * longer than overdue, but their process is gone.  One snapshot: what engines do meanwhile is seen as a
 * whole.  Of
 * a process only its first stuck task is told.  Reads the whole queue.
 */
create or replace function pgprog.inspect_queue(overdue interval = '1 min', max_rows integer = 10)
returns table (fault text, task_id bigint, namespace text, process_id text, incarnation bigint, since timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    (select 'stuck', q.task_id, q.namespace, q.process_id, q.incarnation, q.due_at
     from (
       -- Once a process: one may have a hundred thousand blocked tasks.
       select b.incarnation, min(b.task_id) as first from pgprog_data.queue as b
       where b.status = 'b' group by b.incarnation
     ) as x
     join pgprog_data.queue as q on q.task_id = x.first
     where not exists (
         select 1 from pgprog_data.queue as o where o.incarnation = x.incarnation and o.status = 'r')
       and not exists (
         select 1 from pgprog_data.queue as o where o.incarnation = x.incarnation and o.status in ('w', 'h'))
       and not exists (
         select 1 from pgprog_data.timers as t
         where t.incarnation = x.incarnation and t.status = 'w' and t.due_at <= pgprog_engine._now())
       and not exists (  -- an init has the number of its incarnation
         select 1 from pgprog_data.queue as o where o.task_id = x.incarnation and o.status = 'f')
     limit inspect_queue.max_rows)
    union all
    (select 'lost', q.task_id, q.namespace, q.process_id, q.incarnation, q.due_at
     from pgprog_data.queue as q
     where q.status <> 'r'
       and q.due_at < pgprog_engine._now() - inspect_queue.overdue
       and not exists (select 1 from pgprog_data.processes as p where p.incarnation = q.incarnation)
     limit inspect_queue.max_rows);
end
$$;

comment on function pgprog.inspect_queue(interval, integer) is 'Tasks that no claim would ever take; for pgprog doctor';
