/*
 * Refuse any isolation but READ COMMITTED.
 *
 * Functions that choose the next task of a process, or let it go, do so in a statement later than
 * their locks; with one snapshot for the whole transaction that statement would not see what was
 * committed meanwhile, and leave a task blocked for ever.
 */
create or replace function pgprog_engine._require_read_committed()
returns void
language plpgsql
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'this function needs isolation read committed, this transaction has %',
      current_setting('transaction_isolation')
      using errcode = 'UP010', hint = 'begin the transaction with isolation level read committed';
  end if;
end
$$;

comment on function pgprog_engine._require_read_committed() is 'Refuse any isolation but read committed';
