/*
 * Return the time that is stored: leases, timers, the time of an event.
 *
 * Read once, after the locks are taken: the start of the statement may be older than the wait
 * for a lock, and a lease counted from it would be born expired.  Tests replace it.
 */
create or replace function pgprog_engine._clock()
returns timestamptz
language sql volatile
return clock_timestamp();

comment on function pgprog_engine._clock() is 'The time that is stored, read once after the locks';
