/*
 * Return true if the caller may read processes and answers of a namespace, or there is none.
 *
 * Who may read payloads in the views may read them here.
 *
 * Raises UP015: it is for other roles.
 */
create or replace function pgprog_engine._may_read(namespace text)
returns boolean
language sql stable
as $$
  select coalesce((
    select n.roles is null
      or pgprog_engine._require_role(n.namespace, n.roles, '{pgprog_operator,pgprog_worker,pgprog_payload_viewer}')
    from pgprog_data.namespaces as n
    where n.namespace = _may_read.namespace), true)
$$;

comment on function pgprog_engine._may_read(text)
  is 'True if the caller may read processes and answers of a namespace; else raises UP015';
