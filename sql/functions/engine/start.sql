/*
 * Take requests that arrive at a worker's own clients and start those whose process stands free.
 *
 * See pgprog_engine._start for the outcomes.  Everything started is claimed for the worker.
 * A lock that is not had within 50 ms (a stranger's open transaction holds the same key or new
 * process) ends the whole batch with 55P03, nothing done: give the items one by one then.
 *
 * Raises UP002: the lease of the worker is lost.
 */
create or replace function pgprog_engine.start(
  worker_id bigint, max_starts integer, types text[], namespaces text[], process_ids text[], argss jsonb[], names text[],
  idempotency_keys text[], contexts jsonb[], priorities integer[], run_ats timestamptz[],
  out pos integer, out outcome text, out message text, out task_id bigint, out claim_id bigint, out incarnation bigint,
  out created_at timestamptz, out status text, out state_version integer, out state jsonb, out metadata jsonb,
  out last_event_id bigint, out version bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '50ms'
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_variable
begin
  return query
    select * from pgprog_engine._start(
      start.worker_id, start.max_starts, start.types, start.namespaces, start.process_ids, start.argss, start.names,
      start.idempotency_keys, start.contexts, start.priorities, start.run_ats);
end
$$;

comment on function pgprog_engine.start(
  bigint, integer, text[], text[], text[], jsonb[], text[], text[], jsonb[], integer[], timestamptz[])
  is 'Take requests that arrive at a worker''s own clients and start those whose process stands free';
