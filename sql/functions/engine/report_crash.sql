/*
 * Let a step go whose child process died of it, so that its next attempt may start at once.
 *
 * It counts as a crash: its worker lives, and saw it begin.  False: the claim is not this worker's any
 * more, or its row is locked at this moment; give it again as long as renewals tell of the claim.
 * Repeating it is harmless.  Locks: the queue row (skip locked).
 */
create or replace function pgprog_engine.report_crash(worker_id bigint, task_id bigint, claim_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  perform pgprog_engine._require_read_committed();
  update pgprog_data.queue as q
  set begun = true
  where q.task_id = any (array(
    select h.task_id from pgprog_data.queue as h
    where h.task_id = report_crash.task_id
      and h.claim_id = report_crash.claim_id
      and h.worker_id = report_crash.worker_id
    for no key update skip locked));
  if not found then
    return false;
  end if;
  return pgprog_engine._let_go(array[report_crash.task_id], array[report_crash.claim_id], true) = 1;
end
$$;

comment on function pgprog_engine.report_crash(bigint, bigint, bigint)
  is 'Let a step go whose child process died of it, so that its next attempt may start at once';
