-- Settings by which committed work may be lost, or the whole database, when the machine fails.
select
  case s.name when 'synchronous_commit' then 'warning' else 'critical' end as severity,
  format('setting %s', s.name) as subject,
  format('it is off (%s): %s', s.source,
    case s.name
      when 'synchronous_commit' then 'the last commits before a crash may be gone, answers of calls among them'
      else 'a crash of the machine may destroy the database' end) as cause,
  jsonb_build_object('setting', s.name, 'value', s.setting, 'source', s.source, 'file', s.sourcefile) as evidence,
  format('alter system set %s = on; select pg_reload_conf();', s.name)
    || case when s.source = 'command line' then '  -- it stands on the command line of the server: take it away there' else '' end as sql,
  null::text[] as command
from pg_settings as s
where s.name in ('fsync', 'full_page_writes', 'synchronous_commit')
  and s.setting = 'off'
  and s.source not in ('database', 'user', 'database user', 'session', 'client')
