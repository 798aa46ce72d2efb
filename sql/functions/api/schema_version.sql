/*
 * Return the number of the last migration that was applied.
 */
create or replace function pgprog.schema_version()
returns integer
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select max(substring(m.name from '/([0-9]{4})_')::integer) from pgprog_data.schema_migrations as m
$$;

comment on function pgprog.schema_version() is 'The number of the last migration that was applied';
