/*
 * Do the housekeeping: partitions ahead and old, and a first batch of what erase_old erases.
 *
 * Safe to run by many workers at once and at any time: one does it, the others return false.
 * A new partition is created, checked and attached (no lock that stops readers or writers); an old
 * one is dropped under a lock time-out of 100 ms and tried again next time.
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

  perform pgprog_engine._erase_old(maintain.key_ttl);

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
  is 'Do the housekeeping: partitions ahead and old, and a first batch of what erase_old erases';
