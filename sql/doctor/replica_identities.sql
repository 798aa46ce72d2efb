-- Tables that are followed and whose replica identity is without their primary key: the stream tells of a removed row, and
-- not which.  With none at all PostgreSQL refuses to update and to delete.
select distinct
  case when c.relreplident = 'n' then 'critical' else 'warning' end as severity,
  format('table %I.%I', t.schemaname, t.tablename) as subject,
  case when c.relreplident = 'n' then 'it has no replica identity and is published: no row can be changed or removed'
    else format('its replica identity is index %s, without its primary key: readers do not follow it', i.indexrelid::regclass)
  end as cause,
  jsonb_build_object('table', t.tablename, 'identity', c.relreplident) as evidence,
  format('alter table %I.%I replica identity default;', t.schemaname, t.tablename) as sql,
  null::text[] as command
from pg_publication_tables as t
join pg_publication as p on p.pubname = t.pubname and (p.pubupdate or p.pubdelete)
join pg_namespace as s on s.nspname = t.schemaname
join pg_class as c on c.relname = t.tablename and c.relnamespace = s.oid
join pg_index as k on k.indrelid = c.oid and k.indisprimary
left join pg_index as i on i.indrelid = c.oid and i.indisreplident
where s.nspname = 'pgprog_data'
  and (c.relreplident = 'n' or c.relreplident = 'i' and not k.indkey::int2[] <@ i.indkey::int2[])
