/*
 * Return the schema version of the oldest workers that these tables and functions serve: whose pgprog brought no
 * later migration.  A migration or a function that they cannot work with raises it to that migration's number.
 */
create or replace function pgprog_engine.oldest_served()
returns integer
language sql immutable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select 3
$$;

comment on function pgprog_engine.oldest_served() is 'The schema version of the oldest workers that are served here';
