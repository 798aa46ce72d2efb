/*
 * Return what a request under an idempotency key is recognised by.
 *
 * Args are compared as jsonb: spelling, order of keys and 1 against 1.0 do not matter, hence the
 * hash of the value and not of its text.  Two seeds make 128 bits.  Sealed args differ each time, and bring
 * with them what stands for the plain ones.
 * A scalar expression, stable as jsonb_build_array is, which the planner puts in place of the call.
 */
create or replace function pgprog_engine._fingerprint(type text, name text, process_id text, args jsonb)
returns bytea
language sql stable
as $$
  select int8send(jsonb_hash_extended(
      jsonb_build_array(type, name, process_id, coalesce(args -> 'pgprog:fingerprint', args)), 1))
    || int8send(jsonb_hash_extended(
      jsonb_build_array(type, name, process_id, coalesce(args -> 'pgprog:fingerprint', args)), 2))
$$;

comment on function pgprog_engine._fingerprint(text, text, text, jsonb) is 'What a request under an idempotency key is recognised by';
