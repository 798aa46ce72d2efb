/*
 * Give a namespace the settings that it had at an earlier version, as their next version; return its number.
 *
 * version: the one that they are rolled back from, whose move refuses it; null: whichever it is.  What is rolled
 * back to is not judged (judge_settings): it would go back to what somebody had a reason to leave.
 *
 * Locks: the row of the namespace.
 * Raises UP007: no such namespace, or it never had such a version.  UP010, UP014: as set_settings.
 */
create or replace function pgprog.rollback_settings(
  namespace text, to_version bigint, version bigint = null, reason text = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_settings jsonb;
  v_version bigint;
begin
  select s.settings into v_settings
  from pgprog_data.namespace_settings as s
  where s.namespace = rollback_settings.namespace
    and s.settings_version = rollback_settings.to_version;
  if not found then
    raise exception 'namespace % has no settings of version %', rollback_settings.namespace, rollback_settings.to_version
      using errcode = 'UP007';
  end if;
  v_version := pgprog.set_settings(
    rollback_settings.namespace, v_settings, rollback_settings.version,
    coalesce(rollback_settings.reason, 'rollback to version ' || rollback_settings.to_version));
  update pgprog_data.namespace_settings as s
  set restores = rollback_settings.to_version
  where s.namespace = rollback_settings.namespace
    and s.settings_version = v_version
    and v_version > rollback_settings.to_version;
  return v_version;
end
$$;

comment on function pgprog.rollback_settings(text, bigint, bigint, text)
  is 'Give a namespace the settings that it had at an earlier version, as their next version; return its number';
