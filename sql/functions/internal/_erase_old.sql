/*
 * Erase a batch of what nobody asks for any more; return whether there is more.
 *
 * At most 10 000 expired keys, as many notes of what operators did (none where audit_retention is null, and none of the
 * last day, as no key of the last minute), events and payloads of as many ended tasks of removed processes, and
 * the notes of 1 000 removals; removes 1 000 finished processes whose retention is over.  What has erased for a second
 * leaves the rest to the next call: who measures the queues waits for the same connection.
 * The caller holds the lock of housekeeping: a row is erased by its place in the table.
 *
 * Locks: process rows (skip locked).
 * Indexes: keys_by_time, removals by incarnation, tasks_by_process, events by incarnation, ended_processes_by_time.
 */
create or replace function pgprog_engine._erase_old(key_ttl interval, audit_retention interval)
returns boolean
language plpgsql
set timezone = 'UTC'  -- a day has 24 hours
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  k_rows constant integer := 10000;
  k_processes constant integer := 1000;
  v_at timestamptz := pgprog_engine._clock();
  v_enough timestamptz := v_at + interval '1 s';
  -- No sooner than a configuration may say: workers call it, and what operators did is kept from them, too.
  v_expired timestamptz := v_at - case
    when _erase_old.key_ttl < '1 minute' then interval '1 minute' else _erase_old.key_ttl end;
  v_forgotten timestamptz := v_at - case
    when _erase_old.audit_retention < '1 day' then interval '1 day' else _erase_old.audit_retention end;
  v_removed bigint[];
  v_old bigint[];
  v_over bigint[];
  v_keys bigint;
  v_notes bigint;
  v_tasks bigint;
  v_events bigint;
begin
  delete from pgprog_data.keys as k
  where k.ctid = any (array(
    select o.ctid from pgprog_data.keys as o where o.created_at < v_expired limit k_rows));
  get diagnostics v_keys = row_count;

  delete from pgprog_data.audit as a
  where a.ctid = any (array(
    select o.ctid from pgprog_data.audit as o where o.at < v_forgotten limit k_rows));
  get diagnostics v_notes = row_count;
  if v_keys + v_notes > 0 and pgprog_engine._clock() > v_enough then
    return true;
  end if;

  -- Ended tasks of removed processes keep their answers only.
  v_removed := array(select r.incarnation from pgprog_data.removals as r order by r.incarnation limit k_processes);
  update pgprog_data.tasks as t
  set args = null, context = null
  where t.task_id = any (array(
    select o.task_id from pgprog_data.tasks as o
    where o.incarnation = any (v_removed) and (o.args is not null or o.context is not null) limit k_rows));
  get diagnostics v_tasks = row_count;
  if v_tasks > 0 and pgprog_engine._clock() > v_enough then
    return true;
  end if;
  delete from pgprog_data.events as e
  where e.ctid = any (array(
    select o.ctid from pgprog_data.events as o where o.incarnation = any (v_removed) limit k_rows));
  get diagnostics v_events = row_count;
  -- With limits: no join, which might walk a table for each of the removals.
  delete from pgprog_data.removals as r
  where r.incarnation = any (v_removed)
    and (select e.event_id from pgprog_data.events as e where e.incarnation = r.incarnation limit 1) is null
    and (
      select t.task_id from pgprog_data.tasks as t
      where t.incarnation = r.incarnation and (t.args is not null or t.context is not null) limit 1) is null;
  if v_events > 0 and pgprog_engine._clock() > v_enough then
    return true;
  end if;

  v_old := array(
    select old.incarnation
    from pgprog_data.namespaces as n
    cross join lateral (
      select e.incarnation from pgprog_data.ended_processes as e
      where e.namespace = n.namespace and e.status = 'finished' and e.at < v_at - n.retention
      order by e.at limit k_processes
    ) as old
    limit k_processes);
  v_over := array(
    select p.incarnation from pgprog_data.processes as p
    where p.incarnation = any (v_old)
    order by p.incarnation
    for no key update skip locked);
  if cardinality(v_over) > 0 then
    perform pgprog_engine._remove_processes(v_over, 'removed', v_at);
  end if;
  return v_keys = k_rows or v_notes = k_rows or v_tasks = k_rows or v_events = k_rows
    or cardinality(v_removed) = k_processes or cardinality(v_old) = k_processes and cardinality(v_over) > 0;
end
$$;

comment on function pgprog_engine._erase_old(interval, interval)
  is 'Erase a batch of what nobody asks for any more; return whether there is more';
