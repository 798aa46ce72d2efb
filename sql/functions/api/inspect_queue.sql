/*
 * Return tasks in a state that the engine never leaves behind: at most max_rows of each fault.
 *
 * stuck: blocked, but nothing runs or waits before them, nor an init for later: nothing lets them go.  lost: due
 * longer than overdue, but their process is gone.  One snapshot: what engines do meanwhile is seen as a
 * whole.  Reads the whole queue.
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
     from pgprog_data.queue as q
     where q.status = 'b'
       and not exists (
         select 1 from pgprog_data.queue as o
         where o.incarnation = q.incarnation and (o.status in ('r', 'w', 'h') or (o.status = 'f' and o.type = 'init')))
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
