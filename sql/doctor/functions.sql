-- Functions of pgprog that are not as its files have them: edited by hand, or dropped.
with package as (
  select f.key as name, f.value as digest from jsonb_each_text(current_setting('pgprog.functions')::jsonb) as f
)
select
  'critical' as severity,
  format('function %s', p.name) as subject,
  case when f.oid is null then 'it is not there' else 'its body is not that of this pgprog: somebody edited it by hand' end as cause,
  jsonb_build_object('function', p.name, 'signature', f.oid::regprocedure, 'owner', pg_get_userbyid(f.proowner)) as evidence,
  null as sql,
  array['pgprog', 'db', 'migrate', '--again'] as command
from package as p
left join (
  pg_proc as f join pg_namespace as n on n.oid = f.pronamespace and n.nspname in ('pgprog', 'pgprog_engine')
) on n.nspname || '.' || f.proname = p.name
where not exists (
    select from pg_proc as g
    join pg_namespace as m on m.oid = g.pronamespace and m.nspname in ('pgprog', 'pgprog_engine')
    where m.nspname || '.' || g.proname = p.name and encode(sha256(convert_to(g.prosrc, 'UTF8')), 'hex') = p.digest)
  and exists (  -- else the schema is behind, which is another finding
    select from pgprog.inspect_schema() as s
    where s.name like '%/' || split_part(p.name, '.', 2) || '.sql'
      and encode(s.sha256, 'hex') = current_setting('pgprog.files')::jsonb ->> s.name)
