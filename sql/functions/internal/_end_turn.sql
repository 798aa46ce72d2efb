/*
 * Note when a turn was taken, and for how long (_take_turn).
 *
 * Locks: its row of measurements.
 */
create or replace function pgprog_engine._end_turn(name text, began_at timestamptz)
returns void
language sql
as $$
  insert into pgprog_data.measurements as m (name, measured_at, took)
  values (_end_turn.name, _end_turn.began_at, pgprog_engine._clock() - _end_turn.began_at)
  on conflict (name) do update
  set measured_at = excluded.measured_at, took = excluded.took
$$;

comment on function pgprog_engine._end_turn(text, timestamptz) is 'Note when a turn was taken, and for how long';
