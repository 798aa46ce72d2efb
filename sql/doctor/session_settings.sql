-- Settings that break workers and clients, by whom they were given: the server, this database, a role.
-- Of roles those that log in and may ask for tasks or run them: what others have breaks nothing here.
with given as (
  select s.name, lower(s.setting) as value, s.setting, 'the server' as whose, 'system' as place
  from pg_settings as s
  where s.source in ('configuration file', 'command line', 'environment variable', 'override')
  union all
  select
    split_part(x.line, '=', 1), lower(substring(x.line from position('=' in x.line) + 1)),
    substring(x.line from position('=' in x.line) + 1),
    coalesce(nullif(concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname), ''), 'all roles'),
    coalesce(nullif(concat_ws(' in ', 'role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname)), ''), 'role all')
  from pg_db_role_setting as c
  cross join lateral unnest(c.setconfig) as x(line)
  left join pg_database as d on d.oid = c.setdatabase
  left join pg_roles as r on r.oid = c.setrole
  where (d.datname is null or d.datname = current_database())
    and (c.setrole = 0 or r.rolcanlogin and exists (
      select from pg_proc as f
      join pg_namespace as n on n.oid = f.pronamespace
      where n.nspname || '.' || f.proname in ('pgprog.call', 'pgprog_engine.claim')
        and has_function_privilege(r.oid, f.oid, 'execute')))
),
-- A role's is kept as it was typed: 1500, 1.5s, '2 min'.
measured as (
  select g.*, case when g.name like '%timeout' then
      substring(g.value from '^ *([0-9]{1,15}([.][0-9]{0,9})?) *(us|ms|s|min|h|d)? *$')::numeric
        * case substring(g.value from '[a-z]+')
          when 'us' then 0.001 when 's' then 1000 when 'min' then 60000 when 'h' then 3600000 when 'd' then 86400000 else 1 end
    end as ms
  from given as g
),
wrong as (
  select m.*, case
      when m.name = 'default_transaction_isolation' and m.value <> 'read committed'
        then 'functions of pgprog refuse to run in another isolation than read committed'
      when m.name = 'default_transaction_read_only' and m.value in ('on', 'true', 'yes', '1', 't', 'y')
        then 'nothing can be written'
      when m.name in ('statement_timeout', 'transaction_timeout') and m.ms > 0 and m.ms < 5000
        then 'a busy claim or a migration takes longer, and is cancelled'
      when m.name = 'lock_timeout' and m.ms > 0 and m.ms < 100
        then 'completions give up before others commit'
      when m.name in ('idle_in_transaction_session_timeout', 'idle_session_timeout') and m.ms > 0 and m.ms < 30000
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
