/*
 * Keep tasks from starting in these namespaces until the end of the transaction; return those where it was done.
 *
 * Their rows are held, too: one that pauses them next waits for nobody.  Waits up to 50 ms each for starts in
 * flight, and is not starved by new ones.  What is not had by then is held by an operator's open transaction, which
 * pauses, resumes or changes settings; of such a namespace nothing is held any more.
 * Locks: the lock of starts of each namespace, exclusive, in the order of their names; then its row (no key update,
 * never waiting).
 */
create or replace function pgprog_engine._stop_starts(namespaces text[])
returns text[]
language plpgsql
set lock_timeout = '50ms'
as $$
declare
  v_namespace text;
  v_stopped text[] := '{}';
begin
  for v_namespace in
    select distinct x.namespace collate "C" from unnest(namespaces) as x(namespace) order by 1
  loop
    begin
      perform pg_advisory_xact_lock(pgprog_engine._starts_lock(v_namespace));
      perform from pgprog_data.namespaces as n where n.namespace = v_namespace for no key update nowait;
      v_stopped := v_stopped || v_namespace;
    exception when lock_not_available then
      null;  -- its caller tries again
    end;
  end loop;
  return v_stopped;
end
$$;

comment on function pgprog_engine._stop_starts(text[])
  is 'Keep tasks from starting in these namespaces until the end of the transaction; return those where it was done';
