/*
 * Return the worker incarnations with their leases, how many tasks each runs, and since when the oldest of them.
 *
 * lease_left is negative where the lease has ended and no collector has come yet.  Reads only.
 */
create or replace function pgprog.inspect_workers()
returns table (
  worker_id bigint, name text, namespaces text[], started_at timestamptz, lease_until timestamptz, lease_left interval,
  renewals bigint, running bigint, oldest_started_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select
    w.worker_id, w.name, w.namespaces, w.started_at, w.lease_until, w.lease_until - pgprog_engine._clock(), w.renewals,
    coalesce(r.running, 0), r.oldest
  from pgprog_data.workers as w
  left join (
    select q.worker_id, count(*) as running, min(q.started_at) as oldest
    from pgprog_data.queue as q
    where q.status = 'r'
    group by q.worker_id
  ) as r on r.worker_id = w.worker_id
  order by w.name, w.worker_id
$$;

comment on function pgprog.inspect_workers() is 'Workers with their leases and how many tasks each runs';
