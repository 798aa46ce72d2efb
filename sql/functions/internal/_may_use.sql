/*
 * Tell whether the caller has the rights of one of these roles, of one of those that no namespace shuts out, or of
 * the owner of pgprog.
 *
 * A role that there is not is nobody's.  Workers and operators may do anything to any namespace: to shut them out
 * of requests would keep nothing from them.  No table is read: it costs some microseconds.
 */
create or replace function pgprog_engine._may_use(roles text[], others text[] = '{pgprog_operator,pgprog_worker}')
returns boolean
language plpgsql stable
as $$
declare
  v_caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
  v_role text;
begin
  foreach v_role in array roles || others loop
    if pg_has_role(v_caller, to_regrole(quote_ident(v_role)), 'usage') then
      return true;
    end if;
  end loop;
  return pg_has_role(v_caller, current_user, 'usage');
end
$$;

comment on function pgprog_engine._may_use(text[], text[])
  is 'Whether the caller has the rights of one of these roles, or of one that no namespace shuts out';
