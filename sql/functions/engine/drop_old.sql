/*
 * Drop the oldest partition whose time is over; return whether there is more to drop at once.
 *
 * What ended within an hour stays, whatever task_retention says.
 *
 * Call it again, each time in a transaction of its own, until it returns false: a drop locks the whole table
 * until the end of its transaction, and whoever reads or writes the table waits behind a drop that waits.  Hence
 * one a transaction, and none that waits for longer than 100 ms: a partition in use is left for the next
 * time with a warning, and false, since what holds it holds the whole table as a rule.
 * Safe to run by many workers at once and at any time: one does it, the others return false.
 *
 * Locks: the table, then its partition (access exclusive, waited for 100 ms at most each).
 */
create or replace function pgprog_engine.drop_old(task_retention interval = '30 days')
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '100ms'
set timezone = 'UTC'  -- a day has 24 hours
as $$
declare
  v_before timestamptz := pgprog_engine._clock() - case
    when drop_old.task_retention < '1 hour' then interval '1 hour' else drop_old.task_retention end;
  v_name text;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('pgprog.maintain', 0)) then
    return false;
  end if;
  select p.name into v_name
  from pgprog_data.partitions as p where p.ends_at < v_before order by p.ends_at, p.name limit 1;
  if v_name is null then
    return false;
  end if;
  begin
    execute format('drop table if exists pgprog_data.%I', v_name);
  exception when lock_not_available then
    raise warning 'somebody holds partition pgprog_data.% or its table: it will be dropped later', v_name;
    return false;
  end;
  delete from pgprog_data.partitions as p where p.name = v_name;
  return exists (select 1 from pgprog_data.partitions as p where p.ends_at < v_before);
end
$$;

comment on function pgprog_engine.drop_old(interval)
  is 'Drop the oldest partition whose time is over; return whether there is more to drop at once';
