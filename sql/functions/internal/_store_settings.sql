/*
 * Give a namespace other settings, as the next version of them; return its number.
 *
 * What the SQL functions need of them goes into columns, with the defaults of what is not given.  The rest is read
 * by workers, which check all of it.
 *
 * Locks: the row of the namespace.  Raises UP010: some of what goes into columns is wrong; all faults are named.
 */
create or replace function pgprog_engine._store_settings(namespace text, settings jsonb, reason text)
returns bigint
language plpgsql
as $$
#variable_conflict use_column
declare
  v_faults text[] := pgprog_engine._settings_faults(_store_settings.settings);
  v_version bigint;
begin
  if cardinality(v_faults) > 0 then
    raise exception 'the settings of namespace % are wrong: %', _store_settings.namespace, array_to_string(v_faults, '; ')
      using errcode = 'UP010';
  end if;
  update pgprog_data.namespaces as n
  set
    settings = _store_settings.settings,
    settings_version = n.settings_version + 1,
    concurrency = (_store_settings.settings ->> 'concurrency')::integer,
    timer_patience = coalesce(pgprog_engine._duration(_store_settings.settings ->> 'timer_patience'), '60 s'),
    max_crashes = coalesce((_store_settings.settings ->> 'max_crashes')::integer, 3),
    id_bytes = coalesce((_store_settings.settings #>> '{limits,id_bytes}')::integer, 256),
    key_bytes = coalesce((_store_settings.settings #>> '{limits,key_bytes}')::integer, 256),
    args_bytes = coalesce((_store_settings.settings #>> '{limits,args_bytes}')::integer, 1048576),
    context_bytes = coalesce((_store_settings.settings #>> '{limits,context_bytes}')::integer, 1048576),
    max_queue = coalesce((_store_settings.settings ->> 'max_queue')::bigint, 100000),
    on_full = coalesce(_store_settings.settings ->> 'on_full', 'refuse'),
    roles = case when jsonb_typeof(_store_settings.settings -> 'roles') = 'array' then array(
      select r.name from jsonb_array_elements_text(_store_settings.settings -> 'roles') as r(name)) end,
    rollback_above = (_store_settings.settings ->> 'rollback_above')::double precision,
    rollback_within = coalesce(pgprog_engine._duration(_store_settings.settings ->> 'rollback_within'), '10 min'),
    retention = coalesce(pgprog_engine._duration(_store_settings.settings ->> 'retention'), '30 days')
  where n.namespace = _store_settings.namespace
  returning n.settings_version into v_version;
  insert into pgprog_data.namespace_settings (namespace, settings_version, settings, changed_at, reason)
  values (_store_settings.namespace, v_version, _store_settings.settings, pgprog_engine._clock(), _store_settings.reason);
  return v_version;
end
$$;

comment on function pgprog_engine._store_settings(text, jsonb, text) is 'Give a namespace other settings, as the next version of them; return its number';
