-- Standbys that hold back the removal of dead rows for their own long reads (hot_standby_feedback).
-- How long is told by transactions: at least a thousand for each second that counts as long.
select
  'warning' as severity,
  format('standby %s', coalesce(nullif(r.application_name, ''), r.pid::text)) as subject,
  format('%s at %s holds xmin, %s transactions old, by hot_standby_feedback: no dead row since then is removed',
    r.usename, coalesce(host(r.client_addr), 'this machine'), age(r.backend_xmin)) as cause,
  jsonb_build_object(
    'pid', r.pid, 'application_name', r.application_name, 'user', r.usename, 'client', r.client_addr,
    'since', r.backend_start, 'xmin_age', age(r.backend_xmin)) as evidence,
  'alter system set hot_standby_feedback = off; select pg_reload_conf();  -- on that standby, or end its long reads' as sql,
  null::text[] as command
from pg_stat_replication as r
where age(r.backend_xmin) > 1000 * extract(epoch from current_setting('pgprog.long')::interval)
