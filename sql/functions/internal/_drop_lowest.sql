/*
 * End the tasks of lowest rank of a namespace that have not started, as cancelled, queue full; return how many.
 *
 * Never an init, timeout or remove, nor a task in retry.  At most 10 000 a call; tasks of processes
 * that are locked elsewhere are passed by.  Locks: process rows (no key update, skip locked), queue rows.
 */
create or replace function pgprog_engine._drop_lowest(namespace text, surplus bigint, at timestamptz)
returns integer
language plpgsql
as $$
#variable_conflict use_column
declare
  v_lowest bigint[];
  v_wanted bigint[];
  v_locked bigint[];
  v_dropped integer;
begin
  select array_agg(c.task_id), array_agg(distinct c.incarnation)
  into v_lowest, v_wanted
  from (
    select q.task_id, q.incarnation from pgprog_data.queue as q
    where q.namespace = _drop_lowest.namespace
      and q.status in ('w', 'b', 'f')
      and q.type in ('call', 'notify', 'repair')
    order by q.rank desc, q.task_id desc
    limit least(_drop_lowest.surplus, 10000)
  ) as c;
  select array_agg(l.incarnation) into v_locked
  from (
    select p.incarnation from pgprog_data.processes as p
    where p.incarnation = any (v_wanted)
    order by p.incarnation
    for no key update skip locked
  ) as l;
  -- A later statement: what has started meanwhile stays.
  select pgprog_engine._cancel_queued(array_agg(d.task_id), 'queue full', _drop_lowest.at) into v_dropped
  from (
    select q.task_id from pgprog_data.queue as q
    where q.task_id = any (v_lowest)
      and q.incarnation + 0 = any (v_locked)  -- + 0 and ::text: found by their ids alone, as in claim
      and q.status::text in ('w', 'b', 'f')
    order by q.task_id
    for update skip locked
  ) as d;
  perform pgprog_engine._let_next_go(v_locked);
  return v_dropped;
end
$$;

comment on function pgprog_engine._drop_lowest(text, bigint, timestamptz)
  is 'End the tasks of lowest rank of a namespace that have not started; return how many';
