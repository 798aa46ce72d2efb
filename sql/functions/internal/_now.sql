/*
 * Return the time that bounds scans: the start of the statement.
 *
 * Stable, so that an index scan can be bounded by it.  Never stored.  Tests replace it.
 */
create or replace function pgprog_engine._now()
returns timestamptz
language sql stable
return statement_timestamp();

comment on function pgprog_engine._now() is 'The time that bounds scans: the start of the statement';
