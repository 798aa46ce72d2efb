-- What workers are asked for, apart from their rows: an operator's open transaction that asked kept all of them from
-- renewing their leases.  The column workers.asked_log_level stays, unused: a view was made of it.
-- Locks: none on existing objects; everything here is new.

-- No reference to the worker, whose end it would hold up; what nobody tells any more goes with the next that is asked.
-- Autovacuum: the server's own; a row a worker and order.
create table pgprog_data.asked_log_levels (
  worker_id bigint primary key,
  level text not null
);
