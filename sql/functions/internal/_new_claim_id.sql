/*
 * Return the id of a new claim: greater than those before it, and none that was given before.
 *
 * A crash of the server, or a failover to a standby that lags, takes the sequence back, together with the claims that were not on
 * disk yet.  Their workers still hold these, and may answer: the lowest 16 bits are random, so that claims made after
 * it do not have their ids.  47 bits are left: at 20 000 claims a second two centuries.
 * A scalar expression, which the planner puts in place of the call.
 */
create or replace function pgprog_engine._new_claim_id()
returns bigint
language sql volatile
as $$
  select nextval('pgprog_data.claim_ids') * 65536 + floor(random() * 65536)::bigint
$$;

comment on function pgprog_engine._new_claim_id()
  is 'The id of a new claim: greater than those before it, and none that was given before';
