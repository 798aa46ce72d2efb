-- Vacuum cuts off the empty end of a table under an ACCESS EXCLUSIVE lock: a queue of 134 MB that had become empty
-- kept everybody out of it for up to 900 ms.  Its pages are filled again instead; `vacuum (truncate) pgprog_data.queue`
-- gives them back by hand.
-- Locks: queue and timers, SHARE UPDATE EXCLUSIVE for a moment.
alter table pgprog_data.queue set (vacuum_truncate = off, toast.vacuum_truncate = off);
alter table pgprog_data.timers set (vacuum_truncate = off, toast.vacuum_truncate = off);
