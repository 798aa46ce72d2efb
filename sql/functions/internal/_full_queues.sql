/*
 * Return those of these namespaces that take no more tasks, each with what to say of it; null where none is full.
 *
 * By what was measured last, five minutes ago at most: where nobody keeps house any more nobody would say that there is
 * room again.  Where the lowest are dropped, only more than max_queue is full: there was nothing left to drop.
 */
create or replace function pgprog_engine._full_queues(namespaces text[])
returns jsonb
language plpgsql stable
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return (
    select jsonb_object_agg(s.namespace, jsonb_build_array(
      format('%s tasks wait, at most %s are allowed', s.tasks, n.max_queue)))
    from pgprog_data.queue_sizes as s
    join pgprog_data.namespaces as n on n.namespace = s.namespace
    where s.namespace = any (_full_queues.namespaces)
      and s.tasks >= n.max_queue + (n.on_full = 'drop_lowest')::integer
      and exists (
        select 1 from pgprog_data.measurements as m
        where m.name = 'queues' and m.measured_at > pgprog_engine._now() - interval '5 min'));
end
$$;

comment on function pgprog_engine._full_queues(text[]) is 'Those of these namespaces that take no more tasks, each with what to say of it';
