/*
 * Return true if the caller may use a namespace that is for these roles.
 *
 * Raises UP015: it is not.
 */
create or replace function pgprog_engine._require_role(
  namespace text, roles text[], others text[] = '{pgprog_operator,pgprog_worker}')
returns boolean
language plpgsql stable
as $$
begin
  if not pgprog_engine._may_use(roles, others) then
    raise exception '%', pgprog_engine._refusal('UP015', namespace, null, 'role ' || pgprog_engine._caller())
      using errcode = 'UP015', hint = format('it is for %s: set role to one of them', array_to_string(roles, ', '));
  end if;
  return true;
end
$$;

comment on function pgprog_engine._require_role(text, text[], text[])
  is 'True if the caller may use a namespace that is for these roles; else raises UP015';
