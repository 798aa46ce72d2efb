-- Tables with many more dead rows than living ones: vacuum does not come, or may not remove them.
select
  'warning' as severity,
  format('table pgprog_data.%s', t.relname) as subject,
  format('it has %s dead rows beside %s living ones; last vacuum: %s', t.n_dead_tup, t.n_live_tup,
    coalesce(date_trunc('second', greatest(t.last_autovacuum, t.last_vacuum))::text, 'never')) as cause,
  jsonb_build_object(
    'table', t.relname, 'dead', t.n_dead_tup, 'living', t.n_live_tup, 'last_autovacuum', t.last_autovacuum,
    'last_vacuum', t.last_vacuum, 'bytes', pg_table_size(t.relid)) as evidence,
  format('vacuum (analyze) pgprog_data.%I;', t.relname) as sql,
  null::text[] as command
from pg_stat_all_tables as t
where t.schemaname = 'pgprog_data'
  and t.n_dead_tup > 50000
  and t.n_dead_tup > 2 * t.n_live_tup
