/*
 * Do the housekeeping: partitions ahead, and a first batch of what erase_old erases; return whether it was done here.
 *
 * Safe to run by many workers at once and at any time: one does it, the others return false.
 * A table that somebody holds against new partitions (an analyze, an index that is made) is left for the next
 * time with a warning: weeks are made five ahead.  Old partitions go by drop_old.  Without key_ttl no key is erased.
 *
 * What is to be erased and held by somebody is left in the same way.
 *
 * Locks: tables of partitions (share update exclusive, for 100 ms at most each), process rows (skip locked).
 */
create or replace function pgprog_engine.maintain(key_ttl interval = '7 days')
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '100ms'
as $$
declare
  v_parent text;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('pgprog.maintain', 0)) then
    return false;
  end if;
  foreach v_parent in array array['tasks', 'attempts'] loop
    begin
      perform pgprog_engine._create_partitions(v_parent);
    exception when lock_not_available then
      raise warning 'somebody holds table pgprog_data.%: the partitions of its next weeks will be made later', v_parent;
    end;
  end loop;
  begin
    perform pgprog_engine._erase_old(maintain.key_ttl, null);
  exception when lock_not_available then
    raise warning 'somebody holds what is to be erased: it will be erased later';
  end;
  return true;
end
$$;

comment on function pgprog_engine.maintain(interval)
  is 'Do the housekeeping: partitions ahead, and a first batch of what erase_old erases; return whether it was done here';
