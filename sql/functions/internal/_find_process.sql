/*
 * Return the incarnation of a process.
 *
 * Raises UP001: no such process.  UP007: no such namespace.
 */
create or replace function pgprog_engine._find_process(namespace text, process_id text)
returns bigint
language plpgsql stable
as $$
#variable_conflict use_column
declare
  v_incarnation bigint;
  v_code text;
begin
  select p.incarnation into v_incarnation
  from pgprog_data.processes as p
  where p.namespace = _find_process.namespace
    and p.process_id = _find_process.process_id;
  if not found then
    v_code := case when exists (select 1 from pgprog_data.namespaces as n where n.namespace = _find_process.namespace)
      then 'UP001' else 'UP007' end;
    raise exception '%', pgprog_engine._refusal(v_code, _find_process.namespace, _find_process.process_id, null)
      using errcode = v_code;
  end if;
  return v_incarnation;
end
$$;

comment on function pgprog_engine._find_process(text, text) is 'The incarnation of a process; raises UP001 or UP007';
