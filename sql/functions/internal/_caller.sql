/*
 * Return the role that the session acts as: that of SET ROLE, else the one it logged in as.
 *
 * In a function with the rights of its owner current_user is the owner; what SET ROLE was given stays, and there
 * nobody can set it.  PostgreSQL lets a session set only roles that its login is a member of.
 */
create or replace function pgprog_engine._caller()
returns name
language sql stable
as $$
  select coalesce(nullif(current_setting('role'), 'none'), session_user)::name
$$;

comment on function pgprog_engine._caller() is 'The role that the session acts as: that of SET ROLE, else the one it logged in as';
