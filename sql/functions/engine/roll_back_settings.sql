/*
 * Take the settings that a namespace has at a version back: those before are its next version; return its number.
 *
 * For workers whose steps fail since.  Null, and nothing is done: that version is in force no longer, its settings
 * do not ask for it (rollback_error_rate), or there are none before.  So of many workers one does it, and what an
 * operator has changed meanwhile stays.
 *
 * Locks: the row of the namespace; not for long, since who calls has other things to do.
 */
create or replace function pgprog_engine.roll_back_settings(namespace text, version bigint, reason text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '100ms'
as $$
#variable_conflict use_column
declare
  v_settings jsonb;
  v_version bigint;
begin
  perform from pgprog_data.namespaces as n
  where n.namespace = roll_back_settings.namespace
    and n.settings_version = roll_back_settings.version
    and n.settings ->> 'rollback_error_rate' is not null
  for no key update;
  if not found then
    return null;
  end if;
  select s.settings into v_settings
  from pgprog_data.namespace_settings as s
  where s.namespace = roll_back_settings.namespace
    and s.settings_version = roll_back_settings.version - 1;
  if not found then
    return null;
  end if;
  v_version := pgprog_engine._store_settings(roll_back_settings.namespace, v_settings, roll_back_settings.reason);
  perform pgprog_engine._audit(
    'roll_back_settings', roll_back_settings.namespace, null, null,
    jsonb_build_object('reason', roll_back_settings.reason), to_jsonb(v_version));
  return v_version;
end
$$;

comment on function pgprog_engine.roll_back_settings(text, bigint, text)
  is 'Take the settings that a namespace has at a version back: those before are its next version; return its number';
