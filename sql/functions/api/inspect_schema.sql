/*
 * Return the files of the schema that were applied, with the digest of their text.
 */
create or replace function pgprog.inspect_schema()
returns table (name text, sha256 bytea, applied_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select m.name, m.sha256, m.applied_at from pgprog_data.schema_migrations as m
  union all
  select f.name, f.sha256, f.applied_at from pgprog_data.schema_functions as f
$$;

comment on function pgprog.inspect_schema() is 'The files of the schema that were applied; for pgprog doctor';
