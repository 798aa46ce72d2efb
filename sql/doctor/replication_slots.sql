-- Replication slots that hold WAL or dead rows: those that nobody follows, and those that fall behind.
-- The slots of pgprog's own readers are temporary: active until their session ends, and with it they go.
with slots as (
  select
    s.*, to_jsonb(s) ->> 'inactive_since' as since,
    pg_wal_lsn_diff(
      case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, s.restart_lsn) as bytes
  from pg_replication_slots as s
)
select
  case when s.bytes > 10 * current_setting('pgprog.much_wal')::bigint or s.wal_status <> 'reserved' then 'critical' else 'warning' end as severity,
  format('replication slot %s', s.slot_name) as subject,
  format('%s; it holds %s of WAL%s',
    case when s.active then format('session %s follows it too slowly', s.active_pid)
      else 'nobody follows it' || coalesce(' since ' || s.since, '') end,
    pg_size_pretty(s.bytes),
    coalesce(format(' and xmin, %s transactions old', greatest(age(s.xmin), age(s.catalog_xmin))), '')) as cause,
  jsonb_build_object(
    'slot', s.slot_name, 'plugin', s.plugin, 'database', s.database, 'pid', s.active_pid, 'wal_bytes', s.bytes,
    'wal_status', s.wal_status, 'xmin_age', greatest(age(s.xmin), age(s.catalog_xmin)), 'since', s.since) as evidence,
  case when s.active then format('select pg_terminate_backend(%s);', s.active_pid)
    else format('select pg_drop_replication_slot(%L);', s.slot_name) end as sql,
  null::text[] as command
from slots as s
where not s.active
  or s.bytes > current_setting('pgprog.much_wal')::bigint
