/*
 * Set aside the due tasks and timers at the head of namespaces whose processes a worker cannot read.
 *
 * needs_version becomes the version of the process's state: from then on only claims of workers that read it
 * look at them.  Looks at a thousand tasks and as many timers over all the namespaces, so that a claim with
 * room for one gets past many in one go; one that is passed over is passed over once.
 *
 * Needs no lock on the processes: a version never falls within an incarnation, so what was read stays
 * true, and the claim looks again under the lock.  Locks: queue and timer rows (skip locked), only of what
 * the worker cannot read and so never waits for: no circle of waits is closed by them.
 * Indexes: queue_ready, timers_due, processes by incarnation.
 */
create or replace function pgprog_engine._set_aside(namespaces text[], reads_in text[], reads integer[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
  v_in text[] := array(select distinct s.namespace from unnest(_set_aside.namespaces) as s(namespace));
  v_share integer := ceil(1000.0 / cardinality(v_in));
  v_tasks bigint[];
  v_timers bigint[];
begin
  v_tasks := array(
    select d.task_id
    from unnest(v_in) as s(namespace)
    cross join lateral (
      select q.task_id, q.incarnation from pgprog_data.queue as q
      where q.namespace = s.namespace and q.status = 'w' and q.needs_version is null
      order by q.rank, q.task_id limit v_share
    ) as d
    join pgprog_data.processes as p on p.incarnation = any (array[d.incarnation])
    where p.state_version > pgprog_engine._version_read(p.namespace, _set_aside.reads_in, _set_aside.reads));
  -- One that a worker took meanwhile is marked as rightly.
  update pgprog_data.queue as q
  set needs_version = (select p.state_version from pgprog_data.processes as p where p.incarnation = q.incarnation)
  where q.task_id = any (array(
    select l.task_id from pgprog_data.queue as l where l.task_id = any (v_tasks) for update skip locked));

  v_timers := array(
    select d.task_id
    from unnest(v_in) as s(namespace)
    cross join lateral (
      select t.task_id, t.incarnation from pgprog_data.timers as t
      where t.namespace = s.namespace and t.status = 'w' and t.needs_version is null and t.due_at <= v_now
      order by t.due_at limit v_share
    ) as d
    join pgprog_data.processes as p on p.incarnation = any (array[d.incarnation])
    where p.state_version > pgprog_engine._version_read(p.namespace, _set_aside.reads_in, _set_aside.reads));
  update pgprog_data.timers as t
  set needs_version = (select p.state_version from pgprog_data.processes as p where p.incarnation = t.incarnation)
  where t.task_id = any (array(
    select l.task_id from pgprog_data.timers as l
    where l.task_id = any (v_timers) and l.due_at <= v_now
    for update skip locked));
end
$$;

comment on function pgprog_engine._set_aside(text[], text[], integer[])
  is 'Set aside the due tasks and timers at the head of namespaces whose processes a worker cannot read';
