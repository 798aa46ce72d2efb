/*
 * Say whether the engine can do its work: {"status": "passing" | "critical", "components": [...]}.
 *
 * Each component has name, status and reason; critical as a whole when one of them is.
 * database: this server takes writes.  partitions: ended tasks of this week and the next have a place.
 * workers: every namespace with due work that is not paused has a live worker, one that reads the newest
 * states that wait where old workers have met them.  queue: nothing that
 * could run has been due for more than five minutes; a timer that was set or imported for a time in the past is due
 * since then.  zombies: no task runs whose worker is gone for a minute.
 */
create or replace function pgprog.health()
returns jsonb
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_now timestamptz := pgprog_engine._now();
  v_week timestamptz := date_trunc('week', v_now, 'UTC');
  v_components jsonb;
begin
  with due as (
    select n.namespace, n.concurrency is not null as is_limited, least(
      (select min(q.due_at) from pgprog_data.queue as q
       where q.namespace = n.namespace and q.status = 'w' and q.needs_version is null),
      (select min(q.due_at) from pgprog_data.queue as q
       where q.namespace = n.namespace and q.status in ('f', 'h') and q.due_at <= v_now),
      (select greatest(t.due_at, t.created_at) from pgprog_data.timers as t
       where t.namespace = n.namespace and t.status = 'w' and t.needs_version is null and t.due_at <= v_now
       order by t.due_at limit 1)) as since
    from pgprog_data.namespaces as n
    where n.paused_at is null
  ),
  aside as (
    select a.namespace, a.version, n.concurrency is not null as is_limited, min(a.due_at) as since
    from (
      select q.namespace, q.needs_version as version, q.due_at from pgprog_data.queue as q
      where q.status = 'w' and q.needs_version is not null
      union all
      select t.namespace, t.needs_version, greatest(t.due_at, t.created_at) from pgprog_data.timers as t
      where t.status = 'w' and t.needs_version is not null and t.due_at <= v_now
    ) as a
    join pgprog_data.namespaces as n on n.namespace = a.namespace and n.paused_at is null
    group by a.namespace, a.version, n.concurrency
  ),
  findings (no, name, faults) as (
    select 1, 'database', case when pg_is_in_recovery() then array['the server is in recovery'] end
    union all
    select 2, 'partitions', (
      select array_agg(format('%s has no partition for %s', p.parent, w.week))
      from unnest(array['tasks', 'attempts']) as p(parent)
      cross join unnest(array[v_week, v_week + interval '168 hours']) as w(week)
      where not exists (
        select 1 from pgprog_data.partitions as x where x.parent = p.parent and x.starts_at <= w.week and x.ends_at > w.week))
    union all
    select 3, 'workers', (
      select array_agg(
        format('no live worker serves namespace %s', d.namespace) || coalesce(' at version ' || d.version, '')
        order by d.namespace, d.version)
      from (
        select due.namespace, null::integer as version from due where due.since is not null
        union all
        select aside.namespace, aside.version from aside
      ) as d
      where not exists (
        select 1 from pgprog_data.workers as w
        where d.namespace = any (w.namespaces) and w.lease_until > pgprog_engine._clock()
          and (d.version is null or d.version <= pgprog_engine._version_read(d.namespace, w.namespaces, w.state_versions))))
    union all
    select 4, 'queue', (
      select array_agg(format('namespace %s has work due since %s', d.namespace, d.since) order by d.namespace)
      from (
        select due.namespace, due.since, due.is_limited from due
        union all
        select aside.namespace, aside.since, aside.is_limited from aside
      ) as d
      where d.since < v_now - interval '5 min'
        and not d.is_limited)
    union all
    select 5, 'zombies', (
      select array[format('%s tasks run without a live worker', count(*))]
      from pgprog_data.queue as q
      where q.status = 'r'
        and q.started_at < v_now - interval '1 min'
        and not exists (
          select 1 from pgprog_data.workers as w
          where w.worker_id = q.worker_id and w.lease_until > v_now - interval '1 min')
      having count(*) > 0)
  )
  select jsonb_agg(jsonb_build_object(
    'name', f.name,
    'status', case when f.faults is null then 'passing' else 'critical' end,
    'reason', array_to_string(f.faults[1:10], '; ')) order by f.no)
  into v_components
  from findings as f;
  return jsonb_build_object(
    'status', case when v_components @> '[{"status": "critical"}]' then 'critical' else 'passing' end,
    'components', v_components);
end
$$;

comment on function pgprog.health() is 'Whether the engine can do its work, by component';
