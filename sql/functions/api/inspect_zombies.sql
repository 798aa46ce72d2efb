/*
 * Return the workers whose leases ended longer ago than overdue and whose tasks still count as running.
 *
 * Of a worker that has no row any more, name and lease_until are null.  The collector of any live worker
 * ends them within a lease.  Reads only; as many rows as tasks run.
 */
create or replace function pgprog.inspect_zombies(overdue interval = '1 min')
returns table (worker_id bigint, name text, lease_until timestamptz, tasks bigint, namespaces text[], since timestamptz)
language sql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
  select q.worker_id, w.name, w.lease_until, count(*), array_agg(distinct q.namespace), min(q.started_at)
  from pgprog_data.queue as q
  left join pgprog_data.workers as w on w.worker_id = q.worker_id
  where q.status = 'r'
    and coalesce(w.lease_until, q.started_at) < pgprog_engine._now() - inspect_zombies.overdue
  group by q.worker_id, w.name, w.lease_until
$$;

comment on function pgprog.inspect_zombies(interval) is 'Dead workers whose tasks still count as running; for pgprog doctor';
