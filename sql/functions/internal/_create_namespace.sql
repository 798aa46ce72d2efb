/*
 * Create a namespace with its settings unless it exists; nothing else changes.
 *
 * One that exists is not even tried: the insert would wait for an open transaction that pauses it.
 *
 * Raises UP010: the name is empty or longer than 256 bytes.
 */
create or replace function pgprog_engine._create_namespace(namespace text, settings jsonb)
returns void
language plpgsql
as $$
#variable_conflict use_column
begin
  if octet_length(coalesce(_create_namespace.namespace, '')) not between 1 and 256 then
    raise exception 'a namespace has % bytes, 1 to 256 are allowed', octet_length(coalesce(_create_namespace.namespace, ''))
      using errcode = 'UP010';
  end if;
  if exists (select 1 from pgprog_data.namespaces as n where n.namespace = _create_namespace.namespace) then
    return;
  end if;
  with fresh as (
    insert into pgprog_data.namespaces (
      namespace, settings, concurrency, timer_patience, max_crashes, args_bytes, context_bytes, max_queue, on_full,
      retention, created_at)
    values (
      _create_namespace.namespace, _create_namespace.settings,
      (_create_namespace.settings ->> 'concurrency')::integer,
      coalesce((_create_namespace.settings ->> 'timer_patience')::interval, '60 s'),
      coalesce((_create_namespace.settings ->> 'max_crashes')::integer, 3),
      coalesce((_create_namespace.settings #>> '{limits,args_bytes}')::integer, 1048576),
      coalesce((_create_namespace.settings #>> '{limits,context_bytes}')::integer, 1048576),
      coalesce((_create_namespace.settings ->> 'max_queue')::bigint, 100000),
      coalesce(_create_namespace.settings ->> 'on_full', 'refuse'),
      coalesce((_create_namespace.settings ->> 'retention')::interval, '30 days'),
      pgprog_engine._clock())
    on conflict do nothing
    returning namespace, settings, settings_version
  )
  insert into pgprog_data.namespace_settings (namespace, settings_version, settings, changed_at)
  select f.namespace, f.settings_version, f.settings, pgprog_engine._clock()
  from fresh as f;
end
$$;

comment on function pgprog_engine._create_namespace(text, jsonb) is 'Create a namespace with its settings unless it exists';
