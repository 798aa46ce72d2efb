/*
 * Create the partitions of a table for last week, this one and five ahead, where they are missing.
 *
 * Raises 55P03 where somebody holds the table for longer than the lock_timeout of the caller.
 * Locks: the table (share update exclusive).
 */
create or replace function pgprog_engine._create_partitions(parent text)
returns void
language sql
set timezone = 'UTC'
as $$
  select pgprog_engine._create_partition(_create_partitions.parent, w.starts_at)
  from generate_series(
    date_trunc('week', pgprog_engine._clock()) - interval '1 week',
    date_trunc('week', pgprog_engine._clock()) + interval '5 weeks', interval '1 week') as w(starts_at)
  order by w.starts_at
$$;

comment on function pgprog_engine._create_partitions(text)
  is 'Create the partitions of a table for last week, this one and five ahead, where they are missing';
