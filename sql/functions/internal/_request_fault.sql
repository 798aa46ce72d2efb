/*
 * Say what is wrong with the values of a request, or null.
 *
 * Sizes of jsonb are those of its uncompressed binary form, which #> '{}' gives: a value from a column of a table may
 * come as it lies there, compressed.
 */
create or replace function pgprog_engine._request_fault(
  process_id text, name text, idempotency_key text, args jsonb, context jsonb,
  priority integer, run_at timestamptz, id_bytes integer, key_bytes integer, args_bytes integer, context_bytes integer)
returns text
language sql stable
as $$
  select case
    when process_id is null or process_id = '' then 'process_id is empty'
    when octet_length(process_id) > id_bytes
      then format('process_id has %s bytes, and the limit is %s', octet_length(process_id), id_bytes)
    when name is not null and octet_length(name) not between 1 and 256
      then format('name has %s bytes, 1 to 256 are allowed', octet_length(name))
    when idempotency_key = '' then 'idempotency_key is empty'
    when octet_length(idempotency_key) > key_bytes
      then format('idempotency_key has %s bytes, and the limit is %s', octet_length(idempotency_key), key_bytes)
    when args is not null and pg_column_size(args #> '{}') > args_bytes
      then format('args have %s bytes, at most %s are allowed', pg_column_size(args #> '{}'), args_bytes)
    when context is not null and pg_column_size(context #> '{}') > context_bytes
      then format('context has %s bytes, at most %s are allowed', pg_column_size(context #> '{}'), context_bytes)
    when priority is null or priority not between -1000000 and 1000000
      then format('priority is %s, -1000000 to 1000000 are allowed', coalesce(priority::text, 'null'))
    when run_at is not null and (not isfinite(run_at) or run_at > '9999-01-01 00:00Z' or run_at < '1970-01-01 00:00Z')
      then format('run_at is %s, a time from 1970 to 9998 is needed', run_at)
  end
$$;

comment on function pgprog_engine._request_fault(
  text, text, text, jsonb, jsonb, integer, timestamptz, integer, integer, integer, integer)
  is 'What is wrong with the values of a request, or null';
