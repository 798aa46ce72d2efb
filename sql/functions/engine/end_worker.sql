/*
 * End a worker whose program is known to have ended, and free its running tasks; return how many.
 *
 * Only for who waited for the program itself: its lease is not looked at.  An attempt is burned, and
 * it counts as a crash for steps that are known to have begun, as when a collector ends a worker.
 * Statements that the program had sent may still run in their backends: for those that hold the
 * worker this waits; later ones commit nothing.  Repeating it is harmless and frees nothing twice; a
 * task whose row a stranger holds is passed by, and freed when repeated or by the next collector.
 * Locks: worker (for update, at most two seconds), then queue rows (skip locked).
 *
 * Raises 55P03: a statement of the program goes on; nothing was done, repeat it.
 */
create or replace function pgprog_engine.end_worker(worker_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '2s'
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_read_committed();
  return pgprog_engine._end_incarnation(end_worker.worker_id, true);
end
$$;

comment on function pgprog_engine.end_worker(bigint) is 'End a worker whose program is known to have ended, and free its running tasks; return how many';
