-- A server that takes no writes: the DSN leads to a standby.
select
  'critical' as severity,
  'server' as subject,
  format('it is a standby%s: nothing can be written here', coalesce(' of ' || r.sender_host, '')) as cause,
  jsonb_build_object('primary', r.sender_host, 'port', r.sender_port) as evidence,
  'select pg_promote();  -- only if the primary is gone; else name the primary in the DSN, or add target_session_attrs=read-write' as sql,
  null::text[] as command
from (select) as one
left join pg_stat_wal_receiver as r on true
where pg_is_in_recovery()
