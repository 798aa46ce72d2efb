/*
 * Return processes in status init without a task that could begin them, at most max_rows.
 *
 * Of a table of more than a million rows a sample of a million is read; share says how much that was.  One
 * row with a null process_id tells the share where nothing is wrong.  Reads only.
 */
create or replace function pgprog.inspect_processes(max_rows integer = 10)
returns table (namespace text, process_id text, incarnation bigint, created_at timestamptz, share double precision)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_rows double precision := (select c.reltuples from pg_class as c where c.oid = 'pgprog_data.processes'::regclass);
  v_share double precision := least(100, 100 * 1e6 / greatest(v_rows, 1));
begin
  return query
    select p.namespace, p.process_id, p.incarnation, p.created_at, v_share
    from pgprog_data.processes as p tablesample system (v_share)
    where p.status = 'init'
      and not exists (select 1 from pgprog_data.queue as q where q.task_id = p.incarnation)
      -- Of one that a simple repair queued again the number is another.
      and not exists (
        select 1 from pgprog_data.queue as q
        where q.incarnation = p.incarnation and q.type = 'init' and q.status in ('w', 'b', 'h'))
      and not exists (
        select 1 from pgprog_data.queue as q
        where q.incarnation = p.incarnation and q.type = 'init' and q.status = 'r')
    limit inspect_processes.max_rows;
  if not found then
    return query select null::text, null::text, null::bigint, null::timestamptz, v_share;
  end if;
end
$$;

comment on function pgprog.inspect_processes(integer) is 'Processes in status init that nothing will begin; for pgprog doctor';
