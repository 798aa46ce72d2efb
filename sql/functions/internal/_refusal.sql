/*
 * Return the message of a refused request, by its SQLSTATE.
 *
 * The only place of these texts: a single request raises them, a batch returns them.
 */
create or replace function pgprog_engine._refusal(code text, namespace text, process_id text, detail text)
returns text
language sql immutable
as $$
  select case code
    when 'UP001' then format('no process %s in namespace %s', process_id, namespace)
    when 'UP003' then format('process %s in namespace %s is %s, not in error', process_id, namespace, detail)
    when 'UP004' then format('process %s in namespace %s is in error', process_id, namespace)
    when 'UP005' then format('process %s in namespace %s exists', process_id, namespace)
    when 'UP006' then format('process %s in namespace %s is finished', process_id, namespace)
    when 'UP007' then format('no namespace %s', namespace)
    when 'UP008' then format('idempotency key %s in namespace %s belongs to another request', detail, namespace)
    when 'UP009' then format('the queue of namespace %s is full: %s', namespace, detail)
    when 'UP015' then format('namespace %s is not for %s', namespace, detail)
    else detail
  end
$$;

comment on function pgprog_engine._refusal(text, text, text, text) is 'The message of a refused request, by its SQLSTATE';
