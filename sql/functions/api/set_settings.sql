/*
 * Give a namespace these settings, the whole of them, as their next version; return its number.
 *
 * version: the one that the change was made from, whose move refuses it; null: whichever it is; 0: the namespace
 * is to be created.  Settings that it has already are left as they are, and their version is returned: so a repeat
 * is harmless.  Workers obey within two seconds.
 *
 * Locks: the row of the namespace.
 * Raises UP007: no such namespace.  UP010: a setting is wrong; all faults are named.  UP014: the version has moved.
 * UP015: it is for other roles.
 */
create or replace function pgprog.set_settings(namespace text, settings jsonb, version bigint = null, reason text = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_settings jsonb;
  v_version bigint;
begin
  perform pgprog_engine._require_caller(set_settings.namespace);
  if set_settings.version = 0 then  -- apart: an AND evaluates both sides where one is null
    if pgprog_engine._create_namespace(set_settings.namespace, set_settings.settings, set_settings.reason) then
      return 1;
    end if;
  end if;
  select n.settings, n.settings_version into v_settings, v_version
  from pgprog_data.namespaces as n
  where n.namespace = set_settings.namespace
  for no key update;
  if not found then
    raise exception '%', pgprog_engine._refusal('UP007', set_settings.namespace, null, null) using errcode = 'UP007';
  end if;
  if v_settings = set_settings.settings then
    return v_version;
  end if;
  if set_settings.version <> v_version then
    raise exception 'the settings of namespace % are at version %, not %', set_settings.namespace, v_version, set_settings.version
      using errcode = 'UP014', hint = 'look at them again, and repeat the change';
  end if;
  return pgprog_engine._store_settings(set_settings.namespace, set_settings.settings, set_settings.reason);
end
$$;

comment on function pgprog.set_settings(text, jsonb, bigint, text)
  is 'Give a namespace these settings, the whole of them, as their next version; return its number';
