/*
 * Return whether the caller does what many are asked to do: one at a time, and not before its time has come.
 *
 * That is at most once in *every*, and where it took long once in twenty times as long, up to sixty times *every*.
 * What a clock that was ahead has left is no hindrance.
 * The turn ends with the transaction; it counts for those to come once _end_turn has noted it.
 * Locks: an advisory one, tried.  The look at the turn before is a statement later than the lock, so that it sees what
 * its last holder noted.
 */
create or replace function pgprog_engine._take_turn(name text, every interval, at timestamptz)
returns boolean
language plpgsql
as $$
#variable_conflict use_column
begin
  if not pg_try_advisory_xact_lock(hashtextextended('pgprog.turn.' || _take_turn.name, 0)) then
    return false;
  end if;
  return not exists (
    select from pgprog_data.measurements as m
    where m.name = _take_turn.name
      and m.measured_at > _take_turn.at - greatest(_take_turn.every, least(20 * m.took, 60 * _take_turn.every))
      and m.measured_at < _take_turn.at + 60 * _take_turn.every);
end
$$;

comment on function pgprog_engine._take_turn(text, interval, timestamptz)
  is 'Whether the caller does what many are asked to do: one at a time, and not before its time has come';
