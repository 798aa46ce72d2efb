/*
 * Count the tasks of each namespace that do not run, and drop the lowest where it is full and says so.
 *
 * Called by every worker each second: one does it, at most once in *every*, and where the last count
 * took long once in twenty times as long, up to sixty times *every*; the others return false.  What a clock that was
 * ahead has left is no hindrance.  Requests are refused by what is measured here.
 */
create or replace function pgprog_engine.measure_queues(every interval = '1 s')
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  v_at timestamptz := pgprog_engine._clock();
  v_row record;
begin
  perform pgprog_engine._require_read_committed();
  if not pg_try_advisory_xact_lock(hashtextextended('pgprog.measure_queues', 0))
    or exists (
      select 1 from pgprog_data.measurements as m
      where m.name = 'queues' and m.measured_at > v_at - greatest(every, least(20 * m.took, 60 * every))
        and m.measured_at < v_at + 60 * every)
  then
    return false;
  end if;
  for v_row in
    select n.namespace, n.max_queue, n.on_full, coalesce(c.tasks, 0) as tasks, s.tasks as known
    from pgprog_data.namespaces as n
    left join (
      select q.namespace, count(*) as tasks from pgprog_data.queue as q
      where q.status <> 'r'
      group by q.namespace
    ) as c on c.namespace = n.namespace
    left join pgprog_data.queue_sizes as s on s.namespace = n.namespace
  loop
    if v_row.on_full = 'drop_lowest' and v_row.tasks > v_row.max_queue then
      v_row.tasks := v_row.tasks - pgprog_engine._drop_lowest(v_row.namespace, v_row.tasks - v_row.max_queue, v_at);
    end if;
    insert into pgprog_data.queue_sizes as s (namespace, tasks, measured_at)
    select v_row.namespace, v_row.tasks, v_at
    where v_row.known is null
      or abs(v_row.tasks - v_row.known) > v_row.max_queue / 100
      or (v_row.tasks >= v_row.max_queue) <> (v_row.known >= v_row.max_queue)
      or (v_row.tasks > v_row.max_queue) <> (v_row.known > v_row.max_queue)
    on conflict (namespace) do update
    set tasks = excluded.tasks, measured_at = excluded.measured_at;
  end loop;
  insert into pgprog_data.measurements as m (name, measured_at, took)
  values ('queues', v_at, pgprog_engine._clock() - v_at)
  on conflict (name) do update
  set measured_at = excluded.measured_at, took = excluded.took;
  return true;
end
$$;

comment on function pgprog_engine.measure_queues(interval)
  is 'Count the tasks of each namespace that do not run, and drop the lowest where it is full and says so';
