/*
 * Give namespaces the settings before their last change where their tasks fail since; a row for each.
 *
 * Only where rollback_above is set, and for as long as rollback_within after a change.  Too many is a greater share
 * than rollback_above, where it was not greater before the change, in a time as long: else something else is broken,
 * and a rollback would mend nothing.  Settings that a rollback gave back, an operator's or this one, are not judged:
 * what fails under them fails under both.
 *
 * Called by every collector; one does it, at most once in *every*, and where it took long once in twenty times
 * as long, whatever a clock that was ahead has left.  Without a namespace to judge it writes nothing.  A change that somebody makes meanwhile wins:
 * the version that was judged is looked for under the lock, and a row that is locked is left for the next call.
 * Locks: rows of namespaces (no key update, skip locked).  Indexes: namespaces_that_roll_back, those of _failing.
 */
create or replace function pgprog_engine.judge_settings(every interval = '1 s')
returns table (namespace text, judged bigint, restored bigint, version bigint, reason text)
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
  v_at timestamptz := pgprog_engine._clock();
  v_has_turn boolean := false;
  v_judged record;
  v_found record;
  v_reason text;
  v_version bigint;
begin
  perform pgprog_engine._require_read_committed();
  for v_judged in
    select
      n.namespace, n.settings_version as version, n.rollback_above as above, s.changed_at,
      b.settings_version as earlier, b.settings
    from pgprog_data.namespaces as n
    join pgprog_data.namespace_settings as s on s.namespace = n.namespace and s.settings_version = n.settings_version
    join pgprog_data.namespace_settings as b on b.namespace = n.namespace and b.settings_version = n.settings_version - 1
    where n.rollback_above is not null
      and s.changed_at > v_at - n.rollback_within
      and s.restores is null
    order by n.namespace
  loop
    if not v_has_turn then
      if not pg_try_advisory_xact_lock(hashtextextended('pgprog.judge_settings', 0))
        or exists (
          select 1 from pgprog_data.measurements as m
          where m.name = 'settings' and m.measured_at > v_at - greatest(every, least(20 * m.took, 60 * every))
            and m.measured_at < v_at + 60 * every)
      then
        return;
      end if;
      v_has_turn := true;
    end if;
    select f.* into v_found
    from pgprog_engine._failing(v_judged.namespace, v_judged.changed_at, v_at, v_judged.above) as f;
    continue when not found;
    -- What failed before the change, too, is not for it to mend; nor are settings that are refused by now.
    perform 1
    from pgprog_engine._failing(
      v_judged.namespace, v_judged.changed_at - (v_at - v_judged.changed_at), v_judged.changed_at, v_judged.above);
    continue when found or cardinality(pgprog_engine._settings_faults(v_judged.settings)) > 0;
    perform 1
    from pgprog_data.namespaces as n
    where n.namespace = v_judged.namespace
      and n.settings_version = v_judged.version
    for no key update skip locked;
    continue when not found;
    v_reason := format(
      '%s of %s tasks failed under version %s, more than rollback_above (%s): back to version %s',
      v_found.failed, v_found.tasks, v_judged.version, v_judged.above, v_judged.earlier);
    v_version := pgprog_engine._store_settings(v_judged.namespace, v_judged.settings, v_reason);
    update pgprog_data.namespace_settings as s
    set changed_by = 'automatic', restores = v_judged.earlier
    where s.namespace = v_judged.namespace and s.settings_version = v_version;
    perform pgprog_engine._audit(
      'judge_settings', v_judged.namespace, null, null,
      jsonb_build_object('reason', v_reason, 'failed', v_found.failed, 'tasks', v_found.tasks), to_jsonb(v_version));
    return query select v_judged.namespace, v_judged.version, v_judged.earlier, v_version, v_reason;
  end loop;
  if v_has_turn then
    insert into pgprog_data.measurements as m (name, measured_at, took)
    values ('settings', v_at, pgprog_engine._clock() - v_at)
    on conflict (name) do update
    set measured_at = excluded.measured_at, took = excluded.took;
  end if;
end
$$;

comment on function pgprog_engine.judge_settings(interval)
  is 'Give namespaces the settings before their last change where their tasks fail since; a row for each';
