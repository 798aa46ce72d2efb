-- Ids of transactions belong to the cluster that gave them out: a dump takes them into one where they may be still to come,
-- and who compares them with a snapshot there would wait for them.  What reads rows in the order of their commits has xmin,
-- which a restore writes anew.
-- Locks: events, outbox, ACCESS EXCLUSIVE for a moment; nothing is rewritten.

alter table pgprog_data.events drop column xid;
alter table pgprog_data.outbox drop column xid;
