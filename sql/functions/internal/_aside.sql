/*
 * Return the versions, with their namespaces, of what is set aside and a worker can read.
 *
 * Each version that there is in a served namespace costs a look.  Its caller has seen that something is set
 * aside, in whatever namespace.
 * Indexes: queue_newer, timers_newer.
 */
create or replace function pgprog_engine._aside(reads_in text[], reads integer[], out namespaces text[], out versions integer[])
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
begin
  with recursive found (namespace, version) as (
    select s.namespace, 0
    from unnest(_aside.reads_in) as s(namespace)
    union all
    select f.namespace, n.version
    from found as f
    cross join lateral (
      select min(v.version) as version
      from (
        (select q.needs_version as version from pgprog_data.queue as q
         where q.namespace = f.namespace and q.needs_version > f.version and q.status = 'w'
         order by q.needs_version limit 1)
        union all
        (select t.needs_version from pgprog_data.timers as t
         where t.namespace = f.namespace and t.needs_version > f.version and t.status = 'w'
         order by t.needs_version limit 1)
      ) as v
    ) as n
    where n.version <= pgprog_engine._version_read(f.namespace, _aside.reads_in, _aside.reads)
  )
  select array_agg(f.namespace), array_agg(f.version) into namespaces, versions
  from found as f
  where f.version > 0;
end
$$;

comment on function pgprog_engine._aside(text[], integer[]) is 'The versions, with their namespaces, of what is set aside and a worker can read';
