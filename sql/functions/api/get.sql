/*
 * Return a process as one JSON value, from one snapshot; null when there is none.
 *
 * history holds at most max_events events: forward those above after, ascending; backward those
 * below it, descending; state_version is that of the worker that wrote the event.  last_event_id does not depend on the range.  Never waits, not even for a
 * process in init.
 *
 * Raises UP010: direction is neither forward nor backward, or max_events is negative.  UP015: the namespace is for
 * other roles.
 */
create or replace function pgprog.get(
  namespace text, process_id text, max_events integer = 0, after bigint = null, direction text = 'forward')
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan  -- its plan would be made anew each time, which takes three times as long
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_max_events(get.max_events);
  -- A stable function: all that it reads comes from the snapshot of the calling statement.
  return (
    select jsonb_build_object(
      'namespace', p.namespace, 'process_id', p.process_id, 'incarnation', p.incarnation, 'status', p.status,
      'previous_status', p.previous_status, 'status_changed_at', p.status_changed_at, 'detail', p.detail,
      'corrupted_by', p.corrupted_by, 'state', p.state, 'state_version', p.state_version, 'metadata', p.metadata,
      'created_at', p.created_at, 'last_event_id', p.last_event_id, 'version', p.version,
      'timers', (
        select coalesce(jsonb_object_agg(t.name, t.due_at), '{}') from pgprog_data.timers as t
        where t.incarnation = p.incarnation),
      'history', case when get.max_events = 0 then '[]'::jsonb else (
        select coalesce(jsonb_agg(
          jsonb_build_object(
            'event_id', e.event_id, 'at', e.at, 'task_id', e.task_id, 'payload', e.payload, 'metadata', e.metadata,
            'state_version', e.state_version)), '[]')
        from pgprog_engine._events(p.incarnation, get.after, get.max_events, get.direction) as e) end)
    from pgprog_data.processes as p
    where p.namespace = get.namespace
      and p.process_id = get.process_id
      and ( -- once, before all else; _may_read itself would cost 15 µs
        select n.roles is null
          or pgprog_engine._require_role(n.namespace, n.roles, '{pgprog_operator,pgprog_worker,pgprog_payload_viewer}')
        from pgprog_data.namespaces as n
        where n.namespace = get.namespace));
end
$$;

comment on function pgprog.get(text, text, integer, bigint, text) is 'A process as one JSON value, from one snapshot; null when there is none';
