/*
 * Refuse what a transaction of one snapshot has just made where it still sees what was there before.
 *
 * In isolation above READ COMMITTED it may use an id or an idempotency key again that somebody has removed or erased
 * since its snapshot: from then on it would see two processes of one id, or two tasks of one key, and none of its
 * reads and requests could tell them apart.  Had somebody else used it again, PostgreSQL would say the same.
 * Called after the insert, and only in such a transaction.  Raises 40001, which is safe to repeat.
 */
create or replace function pgprog_engine._require_single(namespaces text[], process_ids text[], keys text[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_twice text;
begin
  select format('process %s in namespace %s was removed', x.process_id, x.namespace) into v_twice
  from unnest(_require_single.namespaces, _require_single.process_ids) with ordinality as x(namespace, process_id, pos)
  join pgprog_data.processes as p on p.namespace = any (array[x.namespace]) and p.process_id = x.process_id
  group by x.pos, x.namespace, x.process_id
  having count(*) > 1
  limit 1;
  if not found then
    select format('idempotency key %s in namespace %s was erased', x.key, x.namespace) into v_twice
    from unnest(_require_single.namespaces, _require_single.keys) with ordinality as x(namespace, key, pos)
    join pgprog_data.keys as k on k.namespace = any (array[x.namespace]) and k.key = x.key
    group by x.pos, x.namespace, x.key
    having count(*) > 1
    limit 1;
  end if;
  if v_twice is not null then
    raise exception '% after this transaction had begun to read', v_twice
      using errcode = '40001', hint = 'repeat the transaction, or begin it with isolation level read committed';
  end if;
end
$$;

comment on function pgprog_engine._require_single(text[], text[], text[])
  is 'Refuse what a transaction of one snapshot has just made where it still sees what was there before';
