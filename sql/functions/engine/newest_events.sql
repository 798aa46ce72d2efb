/*
 * Return the newest events of a process up to its last, ascending: at most most of them and 4 MiB of payloads.
 *
 * An array of {event_id, at, task_id, payload, metadata, state_version}; null where any argument is.
 * To be called in the statement that claims, for each task that it claimed: nobody else appends to a process
 * while a task of it runs, so the events up to last_event_id are those of the claim's snapshot.
 *
 * Volatile, though it changes nothing: a stable function would read with the snapshot of the calling statement,
 * taken before the claim locked the process, which may lack its newest events.
 */
create or replace function pgprog_engine.newest_events(incarnation bigint, last_event_id bigint, most integer)
returns jsonb
language plpgsql volatile strict security definer
set search_path = pg_catalog, pgprog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_first bigint := newest_events.last_event_id + 1;
  v_bytes bigint := 0;
  v_row record;
begin
  for v_row in
    select e.event_id, octet_length(e.payload::text) + coalesce(octet_length(e.metadata::text), 0) as bytes
    from pgprog_data.events as e
    where e.incarnation = newest_events.incarnation
      and e.event_id <= newest_events.last_event_id
    order by e.event_id desc
    limit newest_events.most
  loop
    v_bytes := v_bytes + v_row.bytes;
    exit when v_bytes > 4194304;
    v_first := v_row.event_id;
  end loop;
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'event_id', e.event_id, 'at', e.at, 'task_id', e.task_id, 'payload', e.payload, 'metadata', e.metadata,
      'state_version', e.state_version) order by e.event_id), '[]')
    from pgprog_data.events as e
    where e.incarnation = newest_events.incarnation
      and e.event_id between v_first and newest_events.last_event_id);
end
$$;

comment on function pgprog_engine.newest_events(bigint, bigint, integer)
  is 'The newest events of a process up to its last, ascending, for a step that is claimed in the same statement';
