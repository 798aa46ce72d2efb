/*
 * Create a namespace with its settings unless it exists; nothing else changes.  Return whether it was created.
 *
 * One that exists is not even tried: the insert would wait for an open transaction that pauses it.
 *
 * Raises UP010: the name is empty or longer than 256 bytes, or the settings have faults.
 */
create or replace function pgprog_engine._create_namespace(namespace text, settings jsonb, reason text = 'created')
returns boolean
language plpgsql
as $$
#variable_conflict use_column
begin
  if octet_length(coalesce(_create_namespace.namespace, '')) not between 1 and 256 then
    raise exception 'a namespace has % bytes, 1 to 256 are allowed', octet_length(coalesce(_create_namespace.namespace, ''))
      using errcode = 'UP010';
  end if;
  if exists (select 1 from pgprog_data.namespaces as n where n.namespace = _create_namespace.namespace) then
    return false;
  end if;
  insert into pgprog_data.namespaces (namespace, created_at)
  values (_create_namespace.namespace, pgprog_engine._clock())
  on conflict do nothing;
  if not found then
    return false;
  end if;
  perform pgprog_engine._store_settings(_create_namespace.namespace, _create_namespace.settings, _create_namespace.reason);
  return true;
end
$$;

comment on function pgprog_engine._create_namespace(text, jsonb, text) is 'Create a namespace with its settings unless it exists';
