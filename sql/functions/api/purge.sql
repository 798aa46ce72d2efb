/*
 * Erase some of what a paused namespace holds; return how many rows, and where to go on, null when all is gone.
 *
 * All goes, for ever: processes with their history, then ended tasks with the answers that even removed processes
 * keep, then idempotency keys and the args of repair campaigns, and at last what came meanwhile.  Open tasks end as
 * cancelled with cause removed, which is erased two seconds later: their waiters have heard it by then.  The
 * namespace stays, paused, under its settings.  Begin with after => 0 and give each next to the following call, in a
 * transaction of its own, until it is null; a purge that was cut off begins at 0 again.  Nothing erased and the same
 * next: ask again in a moment.  Gone is what was committed: a transaction that is open at the end of the purge may
 * bring more, which another purge erases.
 *
 * max_rows bounds the processes, or the rows of any other kind, of one call.
 *
 * Locks: one purge of a namespace at a time; process rows (skip locked).
 * Raises UP007: no such namespace.  UP010: it is not paused, max_rows is not 1 to 100000, or the transaction is not
 * read committed.
 */
create or replace function pgprog.purge(
  namespace text, after bigint = 0, max_rows integer = 1000, out erased bigint, out next bigint)
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_caller(purge.namespace);
  select p.erased, p.next into erased, next
  from pgprog_engine._purge(purge.namespace, purge.after, purge.max_rows) as p;
  if purge.erased > 0 then
    perform pgprog_engine._audit(
      'purge', purge.namespace, null, null, jsonb_build_object('max_rows', purge.max_rows), to_jsonb(purge.erased));
  end if;
end
$$;

comment on function pgprog.purge(text, bigint, integer)
  is 'Erase some of what a paused namespace holds; return how many rows, and where to go on, null when all is gone';
