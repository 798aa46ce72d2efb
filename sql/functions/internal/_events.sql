/*
 * Return events of an incarnation: above after ascending, or below it descending.
 *
 * A null after means from that end.  Reads no more than max_events rows.
 */
create or replace function pgprog_engine._events(incarnation bigint, after bigint, max_events integer, direction text)
returns setof pgprog_data.events
language plpgsql stable
as $$
#variable_conflict use_column
begin
  if _events.direction = 'forward' then
    return query
      select e.* from pgprog_data.events as e
      where e.incarnation = _events.incarnation and e.event_id > coalesce(_events.after, 0)
      order by e.event_id limit _events.max_events;
  elsif _events.direction = 'backward' then
    return query
      select e.* from pgprog_data.events as e
      where e.incarnation = _events.incarnation and e.event_id < coalesce(_events.after, 9223372036854775807)
      order by e.event_id desc limit _events.max_events;
  else
    raise exception 'direction is %, forward or backward are allowed', coalesce(_events.direction, 'null') using errcode = 'UP010';
  end if;
end
$$;

comment on function pgprog_engine._events(bigint, bigint, integer, text) is 'Events of an incarnation: above after ascending, or below it descending';
