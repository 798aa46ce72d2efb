/*
 * Return the newest version of states that a worker reads in a namespace: 1 where it does not say.
 *
 * namespaces and state_versions are those of its row in workers.  A scalar expression, which the
 * planner puts in place of the call.
 */
create or replace function pgprog_engine._version_read(namespace text, namespaces text[], state_versions integer[])
returns integer
language sql immutable
as $$
  select coalesce(state_versions[array_position(namespaces, namespace)], 1)
$$;

comment on function pgprog_engine._version_read(text, text[], integer[])
  is 'The newest version of states that a worker reads in a namespace';
