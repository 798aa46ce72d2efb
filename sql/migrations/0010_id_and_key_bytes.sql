-- How many bytes ids of processes and idempotency keys may have: settings of a namespace that only programs obeyed
-- which serve it.
-- Locks: pgprog_data.namespaces (access exclusive).

alter table pgprog_data.namespaces
  add column id_bytes integer not null default 256 check (id_bytes between 1 and 1024),
  add column key_bytes integer not null default 256 check (key_bytes between 1 and 1024);

-- What SQL has stored was not checked.
update pgprog_data.namespaces as n
set
  id_bytes = least(greatest(coalesce(s.ids, 256), 1), 1024),
  key_bytes = least(greatest(coalesce(s.keys, 256), 1), 1024)
from (
  select o.namespace,
    case when jsonb_typeof(o.settings #> '{limits,id_bytes}') = 'number' then (o.settings #>> '{limits,id_bytes}')::numeric end
      as ids,
    case when jsonb_typeof(o.settings #> '{limits,key_bytes}') = 'number' then (o.settings #>> '{limits,key_bytes}')::numeric end
      as keys
  from pgprog_data.namespaces as o
) as s
where s.namespace = n.namespace and (s.ids <> 256 or s.keys <> 256);

-- It takes these limits, too.
drop function if exists pgprog_engine._request_fault(
  text, text, text, jsonb, jsonb, integer, timestamptz, integer, integer);
