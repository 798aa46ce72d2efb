/*
 * Raise UP007 unless the namespace exists, UP010 where the process_id or the key is out of its range, UP015 where
 * the namespace is for other roles.
 */
create or replace function pgprog_engine._require_request(namespace text, process_id text, idempotency_key text)
returns void
language plpgsql stable
as $$
#variable_conflict use_column
declare
  v_fault text := pgprog_engine._request_fault(
    _require_request.process_id, null, _require_request.idempotency_key, null, null, 0, null, 0, 0);
begin
  perform n.roles is null or pgprog_engine._require_role(n.namespace, n.roles)
  from pgprog_data.namespaces as n
  where n.namespace = _require_request.namespace;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', _require_request.namespace, null, null) using errcode = 'UP007';
  end if;
  if v_fault is not null then
    raise exception '%', v_fault using errcode = 'UP010';
  end if;
end
$$;

comment on function pgprog_engine._require_request(text, text, text)
  is 'Raise UP007 unless the namespace exists, UP010 where the process_id or the key is out of its range';
