/*
 * Return the advisory lock of starts in a namespace.
 *
 * Who starts a task tries it shared and starts nothing where it is not had; who pauses takes it
 * exclusive, and so waits for the starts in flight.  Held until the end of the transaction.
 */
create or replace function pgprog_engine._starts_lock(namespace text)
returns bigint
language sql immutable
return hashtextextended('pgprog.starts ' || namespace, 0);

comment on function pgprog_engine._starts_lock(text) is 'The advisory lock of starts in a namespace';
