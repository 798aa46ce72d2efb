-- Namespaces whose last change of settings was taken back within a day, since tasks failed: somebody should look.
select
  'warning' as severity,
  format('namespace %s', n.namespace) as subject,
  format('its settings were taken back at %s: %s', date_trunc('second', h.changed_at), h.reason) as cause,
  jsonb_build_object('namespace', n.namespace, 'version', h.settings_version, 'restores', h.restores) as evidence,
  null as sql,
  array['pgprog', 'namespace', 'history', '--', n.namespace] as command
from pgprog.namespaces as n
join pgprog.settings_history as h on h.namespace = n.namespace and h.settings_version = n.settings_version
where h.changed_by = 'automatic'
  and h.restores is not null
  and h.changed_at > clock_timestamp() - interval '1 day'
