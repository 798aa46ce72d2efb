/*
 * Return the SQLSTATE that refuses a request to a process in this status, or null.
 *
 * A null status means that there is no process.  Not for init, which asks the unique index.
 */
create or replace function pgprog_engine._refusal_code(type text, status text)
returns text
language sql immutable
as $$
  select case
    when status is null then 'UP001'
    when type = 'repair' then case when status <> 'error' then 'UP003' end
    when status = 'error' then 'UP004'
    when status = 'finished' then 'UP006'
  end
$$;

comment on function pgprog_engine._refusal_code(text, text) is 'The SQLSTATE that refuses a request to a process in this status, or null';
