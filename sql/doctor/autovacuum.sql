-- Autovacuum that is off, for the server or for a table of pgprog: dead rows pile up and every claim slows down.
select
  'critical' as severity,
  format('setting %s', s.name) as subject,
  format('it is off (%s): dead rows of the queue are never removed', s.source) as cause,
  jsonb_build_object('setting', s.name, 'source', s.source, 'file', s.sourcefile) as evidence,
  format('alter system set %s = on; select pg_reload_conf();', s.name)
    || case when s.source = 'command line' then '  -- it stands on the command line of the server: take it away there' else '' end as sql,
  null::text[] as command
from pg_settings as s
where s.name in ('autovacuum', 'track_counts') and s.setting = 'off'
union all
select
  'critical',
  format('table pgprog_data.%s', c.relname),
  'its autovacuum is off: its dead rows are never removed',
  jsonb_build_object('table', c.relname, 'options', c.reloptions),
  format('alter table pgprog_data.%I reset (autovacuum_enabled);', c.relname),
  null
from pg_class as c
join pg_namespace as n on n.oid = c.relnamespace and n.nspname = 'pgprog_data'
where c.reloptions && array['autovacuum_enabled=false', 'autovacuum_enabled=off', 'autovacuum_enabled=0']
