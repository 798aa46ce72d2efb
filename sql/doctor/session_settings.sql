-- Settings that break workers and clients, by whom they were given: the server, this database, a role.
with given as (
  select s.name, s.setting, 'the server' as whose, 'system' as place
  from pg_settings as s
  where s.source in ('configuration file', 'command line', 'environment variable', 'override')
  union all
  select
    split_part(x.line, '=', 1), substring(x.line from position('=' in x.line) + 1),
    concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname),
    case when r.oid is null then format('database %I', d.datname)
      else format('role %I', r.rolname) || coalesce(format(' in database %I', d.datname), '') end
  from pg_db_role_setting as c
  cross join lateral unnest(c.setconfig) as x(line)
  left join pg_database as d on d.oid = c.setdatabase
  left join pg_roles as r on r.oid = c.setrole
  where d.datname is null or d.datname = current_database()
),
measured as (
  select g.*,
    case when g.setting ~ '^[0-9]+$' then g.setting::bigint * interval '1 ms'
      when g.setting ~ '^[0-9]+ ?(ms|s|min|h|d)$' then g.setting::interval end as duration
  from given as g
),
wrong as (
  select m.*, case
      when m.name = 'default_transaction_isolation' and m.setting <> 'read committed'
        then 'functions of pgprog refuse to run in another isolation than read committed'
      when m.name = 'default_transaction_read_only' and m.setting in ('on', 'true', 'yes', '1')
        then 'nothing can be written'
      when m.name in ('statement_timeout', 'transaction_timeout') and m.duration between '1 ms' and '4999 ms'
        then 'a busy claim or a migration takes longer, and is cancelled'
      when m.name = 'lock_timeout' and m.duration between '1 ms' and '99 ms'
        then 'completions give up before others commit'
      when m.name in ('idle_in_transaction_session_timeout', 'idle_session_timeout') and m.duration between '1 ms' and '29999 ms'
        then 'sessions of workers and steps with a transaction are cut off'
    end as harm
  from measured as m
)
select
  case when w.name like 'default%' then 'critical' else 'warning' end as severity,
  format('setting %s', w.name) as subject,
  format('it is %s for %s: %s', w.setting, w.whose, w.harm) as cause,
  jsonb_build_object('setting', w.name, 'value', w.setting, 'whose', w.whose) as evidence,
  case w.place when 'system' then format('alter system reset %s; select pg_reload_conf();', w.name)
    else format('alter %s reset %s;  -- then start workers again', w.place, w.name) end as sql,
  null::text[] as command
from wrong as w
where w.harm is not null
