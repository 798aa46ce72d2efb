/*
 * Refuse any isolation but READ COMMITTED.
 *
 * Engine functions choose the next task in a statement later than their locks; with one snapshot
 * for the whole transaction that statement would not see what was committed meanwhile.
 */
create or replace function pgprog_engine._require_read_committed()
returns void
language plpgsql
as $$
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'engine functions need isolation read committed, this transaction has %',
      current_setting('transaction_isolation')
      using errcode = 'UP010', hint = 'set default_transaction_isolation to read committed for workers';
  end if;
end
$$;

comment on function pgprog_engine._require_read_committed() is 'Refuse any isolation but read committed';
