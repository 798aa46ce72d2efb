-- A namespace wants a cache, and the server does not tell its changes.
select
  'warning' as severity,
  'setting wal_level' as subject,
  format('it is %s: the cache of namespace %s needs logical, and reads go to PostgreSQL',
    current_setting('wal_level'), string_agg(n.namespace, ', ')) as cause,
  jsonb_build_object('wal_level', current_setting('wal_level'), 'namespaces', array_agg(n.namespace)) as evidence,
  'alter system set wal_level = ''logical'';  -- then restart PostgreSQL' as sql,
  null::text[] as command
from pgprog.inspect_namespaces() as n
where n.caches and current_setting('wal_level') <> 'logical'
having count(*) > 0
