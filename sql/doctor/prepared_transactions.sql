-- Transactions that were prepared and never ended: they hold xmin and their locks through restarts.
select
  'critical' as severity,
  format('prepared transaction %s', p.gid) as subject,
  format('%s prepared it at %s and nobody has ended it; it holds its locks, and xmin, %s transactions old',
    p.owner, date_trunc('second', p.prepared), age(p.transaction)) as cause,
  jsonb_build_object('gid', p.gid, 'user', p.owner, 'since', p.prepared, 'xmin_age', age(p.transaction)) as evidence,
  format('rollback prepared %L;', p.gid) as sql,
  null::text[] as command
from pg_prepared_xacts as p
where p.database = current_database()
  and p.prepared < clock_timestamp() - current_setting('pgprog.long')::interval
