/*
 * Raise UP007 unless the namespace exists, UP010 where the process_id or the key is out of its range.
 */
create or replace function pgprog_engine._require_request(namespace text, process_id text, idempotency_key text)
returns void
language plpgsql stable
as $$
declare
  v_fault text := pgprog_engine._request_fault(process_id, null, idempotency_key, null, null, 0, null, 0, 0);
begin
  if not exists (select 1 from pgprog_data.namespaces as n where n.namespace = _require_request.namespace) then
    raise exception '%', pgprog_engine._refusal('UP007', namespace, null, null) using errcode = 'UP007';
  end if;
  if v_fault is not null then
    raise exception '%', v_fault using errcode = 'UP010';
  end if;
end
$$;

comment on function pgprog_engine._require_request(text, text, text)
  is 'Raise UP007 unless the namespace exists, UP010 where the process_id or the key is out of its range';
