-- left: what is to be done yet; ended jobs are receipts of batches, and pruned ones a sum.  Its rows
-- are too intricate to be made by hand: before the pinned question jobs run.
select %(count)s
  - coalesce((select sum(pruned_completed_count) from awa.queue_terminal_rollups), 0)
  - coalesce((select sum(cardinality(job_ids)) from awa.receipt_completion_batches), 0)
  - (select count(*) from awa.done_entries)
