/*
 * Do the housekeeping: partitions ahead and old, expired keys, finished processes, events of removed ones.
 *
 * Safe to run by many workers at once and at any time: one does it, the others return false.
 * A new partition is created, checked and attached (no lock that stops readers or writers); an old
 * one is dropped under a lock time-out of 100 ms and tried again next time.  Deletes at most 10 000
 * keys, as many events and payloads of as many tasks of removed processes a call, and removes 1 000 processes a namespace whose retention is over.
 */
create or replace function pgprog_engine.maintain(task_retention interval = '30 days', key_ttl interval = '7 days')
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '100ms'
as $$
#variable_conflict use_column
declare
  v_at timestamptz := pgprog_engine._clock();
  v_start timestamptz := date_trunc('week', v_at, 'UTC') - interval '7 days';
  v_old record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('pgprog.maintain', 0)) then
    return false;
  end if;
  for v_week in 0..6 loop
    perform pgprog_engine._create_partition(parent, v_start + v_week * interval '7 days')
    from unnest(array['tasks', 'attempts']) as p(parent);
  end loop;

  delete from pgprog_data.keys as k
  where k.ctid in (
    select k.ctid from pgprog_data.keys as k
    where k.created_at < v_at - maintain.key_ttl limit 10000);

  -- Ended tasks of removed processes keep their answers only.
  with batch as (
    select r.incarnation from pgprog_data.removals as r order by r.removed_at limit 100
  ),
  told as (
    select t.task_id, t.ended_at
    from batch as b
    join pgprog_data.tasks as t on t.incarnation = b.incarnation
    where t.args is not null or t.context is not null
    limit 10000
  )
  update pgprog_data.tasks as t
  set args = null, context = null
  from told
  where t.task_id = told.task_id
    and t.ended_at = told.ended_at;
  with batch as (
    select r.incarnation from pgprog_data.removals as r order by r.removed_at limit 100
  ),
  victims as (
    select e.incarnation, e.event_id
    from batch as b
    join pgprog_data.events as e on e.incarnation = b.incarnation
    limit 10000
  ),
  gone as (
    delete from pgprog_data.events as e
    using victims as v
    where e.incarnation = v.incarnation and e.event_id = v.event_id
  )
  delete from pgprog_data.removals as r
  using batch as b
  where r.incarnation = b.incarnation
    and not exists (select 1 from pgprog_data.events as e where e.incarnation = b.incarnation)
    and not exists (
      select 1 from pgprog_data.tasks as t
      where t.incarnation = b.incarnation and (t.args is not null or t.context is not null));

  perform pgprog_engine._remove_processes(array_agg(f.incarnation), 'removed', v_at)
  from (
    select p.incarnation
    from pgprog_data.namespaces as n
    cross join lateral (
      select e.incarnation from pgprog_data.ended_processes as e
      where e.namespace = n.namespace and e.status = 'finished' and e.at < v_at - n.retention
      order by e.at limit 1000
    ) as old
    join pgprog_data.processes as p on p.incarnation = old.incarnation
    order by p.incarnation
    for no key update of p skip locked
  ) as f
  having count(*) > 0;

  -- Last, since a drop locks the whole table until the end of this transaction.
  for v_old in
    select p.name from pgprog_data.partitions as p where p.ends_at < v_at - maintain.task_retention
  loop
    begin
      execute format('drop table if exists pgprog_data.%I', v_old.name);
      delete from pgprog_data.partitions as p where p.name = v_old.name;
    exception when lock_not_available then
      raise notice 'partition % is in use; it will be dropped later', v_old.name;
    end;
  end loop;
  return true;
end
$$;

comment on function pgprog_engine.maintain(interval, interval)
  is 'Do the housekeeping: partitions, expired keys, finished processes, events of removed ones';
