/*
 * Return the public status of a row of the queue or the timers.
 */
create or replace function pgprog_engine._status_of(status "char")
returns text
language sql immutable
return case status when 'r' then 'running' when 'b' then 'blocked' when 'p' then 'blocked' else 'waiting' end;

comment on function pgprog_engine._status_of("char") is 'The public status of a row of the queue or the timers';
