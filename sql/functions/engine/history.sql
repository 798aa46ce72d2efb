/*
 * Return events of a process for a step of it: forward those above after, ascending; backward those below it, descending.
 *
 * Those of the incarnation that the step was claimed of, also where the id belongs to another one by now.
 * Stable: whether the process is there is answered by the snapshot that its events are read with.
 *
 * Raises UP001: the process was removed.  UP007: its namespace, too.  UP010: a bad direction or max_events.
 */
create or replace function pgprog_engine.history(
  namespace text, process_id text, incarnation bigint, after bigint, max_events integer, direction text)
returns table (event_id bigint, at timestamptz, task_id bigint, payload jsonb, metadata jsonb, state_version integer)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_max_events(history.max_events);
  if pgprog_engine._find_process(history.namespace, history.process_id) <> history.incarnation then
    raise exception 'process % in namespace % was removed, and another one made since', history.process_id, history.namespace
      using errcode = 'UP001';
  end if;
  return query
    select e.event_id, e.at, e.task_id, e.payload, e.metadata, e.state_version
    from pgprog_engine._events(history.incarnation, history.after, history.max_events, history.direction) as e;
end
$$;

comment on function pgprog_engine.history(text, text, bigint, bigint, integer, text)
  is 'Events of a process for a step of it, of the incarnation that the step was claimed of';
