-- Each claim and completion looks for what is due of its process: with forty later timers it read them all, at 160 µs.
-- Locks: timers, SHARE while the index is built, a second for two million.
create index timers_of on pgprog_data.timers (incarnation, due_at);
