/*
 * Check that a namespace is paused.
 *
 * Raises UP007: no such namespace.  UP010: it is not paused.
 */
create or replace function pgprog_engine._require_paused(namespace text)
returns void
language plpgsql stable
as $$
#variable_conflict use_column
declare
  v_paused_at timestamptz;
begin
  select n.paused_at into v_paused_at
  from pgprog_data.namespaces as n
  where n.namespace = _require_paused.namespace;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', _require_paused.namespace, null, null) using errcode = 'UP007';
  end if;
  if v_paused_at is null then
    raise exception 'namespace % is not paused', _require_paused.namespace
      using errcode = 'UP010', hint = format('select pgprog.pause(%L)', _require_paused.namespace);
  end if;
end
$$;

comment on function pgprog_engine._require_paused(text) is 'Check that a namespace is paused';
