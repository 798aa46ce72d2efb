/*
 * Return timers in a state that the engine never leaves behind: at most max_rows of each fault.
 *
 * stuck: held back, but no task of their process runs or waits, and no other timer is due.  lost: their process is gone.  One
 * snapshot: what engines do meanwhile is seen as a whole.  Reads all timers.
 */
create or replace function pgprog.inspect_timers(max_rows integer = 10)
returns table (fault text, task_id bigint, namespace text, process_id text, incarnation bigint, name text, since timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
begin
  return query
    (select 'stuck', t.task_id, t.namespace, t.process_id, t.incarnation, t.name, t.due_at
     from pgprog_data.timers as t
     where t.status in ('b', 'p')
       and not exists (  -- each by an index of its own
         select 1 from pgprog_data.queue as o where o.incarnation = t.incarnation and o.status = 'r')
       and not exists (
         select 1 from pgprog_data.queue as o where o.incarnation = t.incarnation and o.status in ('w', 'b', 'h'))
       and not exists (  -- one that its worker let go
         select 1 from pgprog_data.timers as o
         where o.incarnation = t.incarnation and o.status = 'w' and o.due_at <= pgprog_engine._now())
     limit inspect_timers.max_rows)
    union all
    (select 'lost', t.task_id, t.namespace, t.process_id, t.incarnation, t.name, t.due_at
     from pgprog_data.timers as t
     where not exists (select 1 from pgprog_data.processes as p where p.incarnation = t.incarnation)
     limit inspect_timers.max_rows);
end
$$;

comment on function pgprog.inspect_timers(integer) is 'Timers that no claim would ever take; for pgprog doctor';
