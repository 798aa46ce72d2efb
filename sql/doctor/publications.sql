-- Publications that are missing or wrong where a server could be followed: caches and wake-ups miss changes.
with expected (name, tables, operations) as (
  select
    e.name,
    -- PostgreSQL 14 has neither lists of columns nor conditions.
    case when current_setting('server_version_num')::integer >= 150000 then e.tables else e.whole end,
    e.operations
  from (
    values
      ('pgprog_processes', array['processes', 'timers'], array['processes', 'timers'], 'idut'),
      ('pgprog_events', array['events'], array['events'], 'it'),
      ('pgprog_wakeups', array['queue (task_id, namespace, status, due_at) with a condition', 'timers'],
        array['queue', 'timers'], 'i'),
      ('pgprog_answers', array['tasks (task_id, namespace)'], array['tasks'], 'i')
  ) as e (name, tables, whole, operations)
),
found as (
  select
    e.name, e.tables, e.operations, p.oid,
    concat(case when p.pubinsert then 'i' end, case when p.pubdelete then 'd' end, case when p.pubupdate then 'u' end,
      case when p.pubtruncate then 't' end) as does,
    array(
      select concat(c.relname, ' (' || columns.names || ')', case when r.row ->> 'prqual' is not null then ' with a condition' end)
      from (select r.prrelid, to_jsonb(r) as row from pg_publication_rel as r where r.prpubid = p.oid) as r
      join pg_class as c on c.oid = r.prrelid
      cross join lateral (
        select string_agg(a.attname, ', ' order by a.attnum) as names
        from pg_attribute as a
        where a.attrelid = c.oid and r.row -> 'prattrs' @> to_jsonb(a.attnum)
      ) as columns
      order by c.relname) as has
  from expected as e
  left join pg_publication as p on p.pubname = e.name
)
select
  'warning' as severity,
  format('publication %s', f.name) as subject,
  case when f.oid is null then 'it is missing: nobody can follow what it would tell'
    else format('it has the tables %s and operations %s instead of %s and %s',
      coalesce(nullif(array_to_string(f.has, ', '), ''), 'none'), f.does, array_to_string(f.tables, ', '), f.operations)
  end as cause,
  jsonb_build_object('publication', f.name, 'tables', f.has, 'expected', f.tables) as evidence,
  null as sql,
  array['pgprog', 'db', 'migrate', '--again'] as command
from found as f
where current_setting('wal_level') = 'logical'
  and (f.oid is null or f.has <> f.tables or f.does <> f.operations)
