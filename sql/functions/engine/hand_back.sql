/*
 * Give claims back that were not run, with no attempt burned; return how many.
 *
 * Repeating it, or giving claims that are lost already, is harmless.
 */
create or replace function pgprog_engine.hand_back(task_ids bigint[], claim_ids bigint[])
returns integer
language sql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select pgprog_engine._let_go(task_ids, claim_ids, false)
$$;

comment on function pgprog_engine.hand_back(bigint[], bigint[]) is 'Give claims back that were not run, with no attempt burned; return how many';
