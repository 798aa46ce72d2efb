/*
 * Erase a batch of what nobody asks for any more; return whether there is more to erase at once.
 *
 * Call it again, each time in a transaction of its own, until it returns false.  Safe to run by many workers
 * at once and at any time: one does it, the others return false, since that one goes on.
 * What it erases, how much of it and what stays in any case: see pgprog_engine._erase_old.
 *
 * A row that somebody holds, as an open purge does, ends it after 100 ms with 55P03: the next time is soon, and a
 * worker measures the queues by the same connection.
 */
create or replace function pgprog_engine.erase_old(key_ttl interval = '7 days', audit_retention interval = '365 days')
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '100ms'
as $$
begin
  return pg_try_advisory_xact_lock(hashtextextended('pgprog.maintain', 0))
    and pgprog_engine._erase_old(key_ttl, audit_retention);
end
$$;

comment on function pgprog_engine.erase_old(interval, interval)
  is 'Erase a batch of what nobody asks for any more; return whether there is more to erase at once';
