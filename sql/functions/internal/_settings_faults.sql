/*
 * Return what is wrong with the settings that SQL functions read, one sentence each with path, value and range.
 *
 * The ranges are those of the configuration.  Every other setting is checked by who writes it and by each worker.
 */
create or replace function pgprog_engine._settings_faults(settings jsonb)
returns text[]
language sql immutable
as $$
  with kinds (kind, pattern, words) as (
    values
      ('count', '^[1-9][0-9]{0,9}$', 'a whole number from 1 to '),
      ('duration', '^"([0-9]{1,16}([.][0-9]{1,9})?(d|h|m|s|ms|us))+"$', 'a duration from 0s to 36500d'),
      ('share', '^(0([.][0-9]{1,20})?|1([.]0{1,20})?)$', 'a number from 0 to '),
      ('names', E'^[[]("[^"\\\\]{1,63}"(, )?)*[]]$', 'a list of names of database roles'),
      ('choice', '^"(refuse|drop_lowest)"$', 'refuse or drop_lowest')
  ),
  known (path, kind, most) as (
    values
      (array['concurrency'], 'count', 1000000),
      (array['max_queue'], 'count', 1000000000),
      (array['on_full'], 'choice', null),
      (array['max_crashes'], 'count', 1000),
      (array['timer_patience'], 'duration', null),
      (array['retention'], 'duration', null),
      (array['rollback_above'], 'share', 1),
      (array['rollback_within'], 'duration', null),
      (array['roles'], 'names', null),
      (array['limits', 'id_bytes'], 'count', 1024),
      (array['limits', 'key_bytes'], 'count', 1024),
      (array['limits', 'args_bytes'], 'count', 67108864),
      (array['limits', 'context_bytes'], 'count', 67108864),
      (array['limits', 'state_bytes'], 'count', 67108864),
      (array['limits', 'event_bytes'], 'count', 16777216),
      (array['retry', 'max_attempts'], 'count', 1000000)
    union all
    select array['retry_by_type', type, 'max_attempts'], 'count', 1000000
    from unnest(array['init', 'call', 'notify', 'repair', 'timeout', 'remove']) as t(type)
  ),
  given as (
    select k.path, k.kind, k.most, (settings #> k.path)::text as value, settings #>> k.path as plain
    from known as k
    where jsonb_typeof(settings #> k.path) <> 'null'
  )
  select case
    when jsonb_typeof(settings) is distinct from 'object' then array['they are no object']
    else (
      select coalesce(array_agg(
        format('%s: %s is not %s%s', array_to_string(g.path, '.'), left(g.value, 100), k.words, g.most) order by g.path), '{}')
      from given as g
      join kinds as k on k.kind = g.kind
      where case
        when g.value !~ k.pattern then true
        when g.kind = 'count' then g.value::bigint > g.most
        when g.kind = 'duration' then pgprog_engine._duration(g.plain) > interval '36500 days'
        else false
      end)
  end
$$;

comment on function pgprog_engine._settings_faults(jsonb) is 'What is wrong with the settings that SQL functions read';
