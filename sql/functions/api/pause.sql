/*
 * Pause a namespace: no task starts in it after this transaction has committed; return whether it ran before.
 *
 * Running steps end, requests are accepted.  Waits for the claims in flight, some milliseconds.
 * Until the transaction ends no task starts in the namespace.  Pausing a paused one gives it this
 * reason and leaves the time.
 *
 * Locks: the lock of starts of the namespace, exclusive, then its row.  Raises UP007: no such namespace.
 * UP015: it is for other roles.
 */
create or replace function pgprog.pause(namespace text, reason text = null)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_was_running boolean;
begin
  perform pgprog_engine._require_caller(pause.namespace);
  perform pg_advisory_xact_lock(pgprog_engine._starts_lock(pause.namespace));
  select n.paused_at is null into v_was_running
  from pgprog_data.namespaces as n
  where n.namespace = pause.namespace
  for no key update;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', pause.namespace, null, null) using errcode = 'UP007';
  end if;
  update pgprog_data.namespaces as n
  set paused_at = coalesce(n.paused_at, pgprog_engine._clock()), pause_reason = pause.reason
  where n.namespace = pause.namespace;
  return v_was_running;
end
$$;

comment on function pgprog.pause(text, text)
  is 'Pause a namespace: no task starts in it after this transaction has committed; return whether it ran before';
