-- Rights that roles.sql gives and this database lacks, and what everybody may do that nobody should.
-- A database without any of them is left alone: one role does everything there.
with functions as (
  select f.oid, n.nspname || '.' || f.proname as name, n.nspname, f.proname
  from pg_proc as f
  join pg_namespace as n on n.oid = f.pronamespace and n.nspname in ('pgprog', 'pgprog_engine')
),
wanted as (
  select r.rolname, f.oid, f.name
  from functions as f
  join pg_roles as r
    on (r.rolname = 'pgprog_operator' and f.nspname = 'pgprog')
    or (r.rolname = 'pgprog_worker' and f.nspname = 'pgprog_engine' and left(f.proname, 1) <> '_')
    or (r.rolname = 'pgprog_app' and f.name in ('pgprog.init', 'pgprog.call', 'pgprog.notify', 'pgprog.get', 'pgprog.result'))
),
missing as (
  select w.rolname, array_agg(w.name order by w.name) filter (where not has_function_privilege(w.rolname, w.oid, 'execute')) as names
  from wanted as w
  group by w.rolname
),
roles (name) as (
  values ('pgprog_owner'), ('pgprog_worker'), ('pgprog_app'), ('pgprog_operator'), ('pgprog_viewer'), ('pgprog_payload_viewer'),
    ('pgprog_replicator')
),
is_granted as (
  select exists (
    select from pg_namespace as n, aclexplode(n.nspacl) as x
    join pg_roles as r on r.oid = x.grantee
    where n.nspname = 'pgprog' and starts_with(r.rolname, 'pgprog_')) as here
)
select
  'warning' as severity,
  format('role %s', m.rolname) as subject,
  format('it may not execute %s functions that roles.sql gives it, %s among them', cardinality(m.names), m.names[1]) as cause,
  jsonb_build_object('role', m.rolname, 'functions', m.names) as evidence,
  null as sql,
  array['pgprog', 'db', 'roles'] as command
from missing as m, is_granted as g
where g.here and m.names is not null
union all
select
  'warning', format('role %s', r.name), 'it does not exist, although roles.sql was run here',
  jsonb_build_object('role', r.name), null, array['pgprog', 'db', 'roles']
from roles as r, is_granted as g
where g.here and not exists (select from pg_roles as x where x.rolname = r.name)
union all
select
  'warning', format('function %s', f.name), 'everybody may execute it',
  jsonb_build_object('function', f.oid::regprocedure),
  format('revoke execute on function %s from public;', f.oid::regprocedure), null
from functions as f
where has_function_privilege('public', f.oid, 'execute')
