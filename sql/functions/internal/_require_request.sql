/*
 * Raise UP007 unless the namespace exists, UP015 where it is for other roles, UP010 where the process_id or the key is
 * out of its range.
 */
create or replace function pgprog_engine._require_request(namespace text, process_id text, idempotency_key text)
returns void
language plpgsql stable
as $$
#variable_conflict use_column
declare
  v_roles text[];
  v_fault text;
begin
  select n.roles,
    pgprog_engine._request_fault(
      _require_request.process_id, null, _require_request.idempotency_key, null, null, 0, null, n.id_bytes, n.key_bytes, 0, 0)
  into v_roles, v_fault
  from pgprog_data.namespaces as n
  where n.namespace = _require_request.namespace;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', _require_request.namespace, null, null) using errcode = 'UP007';
  end if;
  if v_roles is not null then
    perform pgprog_engine._require_role(_require_request.namespace, v_roles);
  end if;
  if v_fault is not null then
    raise exception '%', v_fault using errcode = 'UP010';
  end if;
end
$$;

comment on function pgprog_engine._require_request(text, text, text)
  is 'Raise UP007 unless the namespace exists, UP010 where the process_id or the key is out of its range';
