/*
 * Raise UP010 unless max_events is 0 or more.
 */
create or replace function pgprog_engine._require_max_events(max_events integer)
returns void
language plpgsql immutable
as $$
begin
  if coalesce(max_events, -1) < 0 then
    raise exception 'max_events is %, 0 or more are allowed', coalesce(max_events::text, 'null') using errcode = 'UP010';
  end if;
end
$$;

comment on function pgprog_engine._require_max_events(integer) is 'Raise UP010 unless max_events is 0 or more';
