/*
 * Say, in one snapshot, what a reader of the replication stream must know of the database.
 *
 * flush_lsn: the position up to which the log is on disk, read after the snapshot; what was acknowledged before the
 * call to who waits for the disk lies below it.  Null in recovery.  snapshot: pg_current_snapshot().  fingerprint: changes whenever one of
 * these publications is dropped, made again or altered, of which the stream itself says nothing from PostgreSQL 18
 * on.  missing: those of them that there are not.
 */
create or replace function pgprog.replication_state(publications text[])
returns table (flush_lsn bigint, snapshot text, fingerprint text, missing text[], in_recovery boolean)
language plpgsql stable security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
declare
  v_schemas text;
begin
  snapshot := pg_current_snapshot();
  in_recovery := pg_is_in_recovery();
  flush_lsn := case when not in_recovery then pg_current_wal_flush_lsn() - '0/0'::pg_lsn end;
  missing := array(
    select n.name from unnest(publications) as n(name)
    where not exists (select from pg_publication as p where p.pubname = n.name)
    order by n.name);
  if current_setting('server_version_num')::integer >= 150000 then  -- publications of whole schemas
    select string_agg(s.oid || ':' || s.xmin, ',' order by s.oid) into v_schemas
    from pg_publication as p
    join pg_publication_namespace as s on s.pnpubid = p.oid
    where p.pubname = any (publications);
  end if;
  select md5(concat_ws(';',
    (select string_agg(p.oid || ':' || p.xmin, ',' order by p.oid) from pg_publication as p
     where p.pubname = any (publications)),
    (select string_agg(r.oid || ':' || r.xmin || ':' || r.prrelid, ',' order by r.oid) from pg_publication as p
     join pg_publication_rel as r on r.prpubid = p.oid
     where p.pubname = any (publications)),
    v_schemas))
  into fingerprint;
  return next;
end
$$;

comment on function pgprog.replication_state(text[])
  is 'What a reader of the replication stream must know of the database, in one snapshot';
