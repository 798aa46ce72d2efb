/*
 * Return how often a task of this type is started at most by the settings of its namespace.
 *
 * For display: what the engine does is decided by pgprog.retry, whose defaults these are.
 */
create or replace function pgprog_engine._max_attempts(settings jsonb, type text)
returns integer
language sql immutable
as $$
  select coalesce(
    settings #>> array['retry_by_type', type, 'max_attempts'],
    case when type in ('timeout', 'notify') then coalesce(settings #>> '{retry,max_attempts}', '3') else '1' end)::integer
$$;

comment on function pgprog_engine._max_attempts(jsonb, text)
  is 'How often a task of this type is started at most by the settings of its namespace';
