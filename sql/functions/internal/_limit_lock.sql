/*
 * Return the advisory lock of the limit of running tasks in a namespace.
 *
 * Who starts tasks where a limit stands tries it exclusive, counts in a later statement, and starts
 * nothing there where it is not had.  Held until the end of the transaction.
 */
create or replace function pgprog_engine._limit_lock(namespace text)
returns bigint
language sql immutable
return hashtextextended('pgprog.limit ' || namespace, 0);

comment on function pgprog_engine._limit_lock(text) is 'The advisory lock of the limit of running tasks in a namespace';
