/*
 * Note what the caller did, in the transaction that did it.
 *
 * details and result hold no payloads: whoever sees no payloads reads them.  What is null in details is left out.
 */
create or replace function pgprog_engine._audit(
  action text, namespace text, process_id text, task_id bigint, details jsonb, result jsonb)
returns void
language sql
as $$
  insert into pgprog_data.audit (
    at, action, namespace, process_id, task_id, login, role, application, client, details, result)
  values (
    pgprog_engine._clock(), action, namespace, process_id, task_id, session_user, pgprog_engine._caller(),
    nullif(current_setting('application_name'), ''), inet_client_addr(), nullif(jsonb_strip_nulls(details), '{}'), result)
$$;

comment on function pgprog_engine._audit(text, text, text, bigint, jsonb, jsonb) is 'Note what the caller did, in the transaction that did it';
