/*
 * Check that the caller may use a namespace, if there is one of this name.
 *
 * Raises UP015: it is for other roles.
 */
create or replace function pgprog_engine._require_caller(namespace text)
returns void
language plpgsql stable
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_role(n.namespace, n.roles)
  from pgprog_data.namespaces as n
  where n.namespace = _require_caller.namespace
    and n.roles is not null;
end
$$;

comment on function pgprog_engine._require_caller(text) is 'Check that the caller may use a namespace; raises UP015';
