/*
 * Return events of a process: forward those above after, ascending; backward those below it, descending.
 *
 * state_version is that of the worker that wrote the event: what its payload is upcast from.
 *
 * Raises UP001: no such process.  UP007: no such namespace.  UP010: a bad direction or max_events.  UP015: the
 * namespace is for other roles.
 */
create or replace function pgprog.history(
  namespace text, process_id text, after bigint = null, max_events integer = 100, direction text = 'forward')
returns table (event_id bigint, at timestamptz, task_id bigint, payload jsonb, metadata jsonb, state_version integer)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_max_events(history.max_events);
  return query
    select e.event_id, e.at, e.task_id, e.payload, e.metadata, e.state_version
    from pgprog_engine._events(
      pgprog_engine._find_process(history.namespace, history.process_id), history.after, history.max_events, history.direction) as e
    where (select pgprog_engine._may_read(history.namespace));
end
$$;

comment on function pgprog.history(text, text, bigint, integer, text) is 'Events of a process, in either direction';
