-- Publications that are missing or wrong where a server could be followed: caches and wake-ups miss changes.
with expected (name, tables, operations) as (
  values
    ('pgprog_processes', array['processes', 'timers'], 'idut'),
    ('pgprog_events', array['events'], 'it'),
    ('pgprog_wakeups', array['queue', 'timers'], 'i'),
    ('pgprog_answers', array['tasks'], 'i')
),
found as (
  select
    e.name, e.tables, e.operations, p.oid,
    concat(case when p.pubinsert then 'i' end, case when p.pubdelete then 'd' end, case when p.pubupdate then 'u' end,
      case when p.pubtruncate then 't' end) as does,
    array(
      select c.relname::text
      from pg_publication_rel as r
      join pg_class as c on c.oid = r.prrelid
      where r.prpubid = p.oid
      order by c.relname) as has
  from expected as e
  left join pg_publication as p on p.pubname = e.name
)
select
  'warning' as severity,
  format('publication %s', f.name) as subject,
  case when f.oid is null then 'it is missing: nobody can follow what it would tell'
    else format('it has the tables %s and operations %s instead of %s and %s', f.has, f.does, f.tables, f.operations)
  end as cause,
  jsonb_build_object('publication', f.name, 'tables', f.has, 'expected', f.tables) as evidence,
  null as sql,
  array['pgprog', 'db', 'migrate', '--again'] as command
from found as f
where current_setting('wal_level') = 'logical'
  and (f.oid is null or f.has <> f.tables or f.does <> f.operations)
