/*
 * Tell whether the caller may ask for repairs: who may execute pgprog.repair, and workers, whose own clients do.
 */
create or replace function pgprog_engine._may_repair()
returns boolean
language plpgsql stable
as $$
begin
  return pgprog_engine._may_use('{pgprog_worker}', '{}')
    or has_function_privilege(
      pgprog_engine._caller(), 'pgprog.repair(text, text, jsonb, text, text, jsonb, integer)', 'execute');
end
$$;

comment on function pgprog_engine._may_repair() is 'Whether the caller may ask for repairs';
