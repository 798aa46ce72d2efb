/*
 * Erase some of what a paused namespace holds; return how many rows, and where to go on, null when all is gone.
 *
 * All goes, for ever: processes with their history, then ended tasks with the answers that even removed processes
 * keep, then idempotency keys and the args of repair campaigns, and at last what came meanwhile.  Open tasks end as
 * cancelled with cause removed, which is erased two seconds later: their waiters have heard it by then.  The
 * namespace stays, paused, under its settings.  Begin with after => 0 and give each next to the following call, in a
 * transaction of its own, until it is null; a purge that was cut off begins at 0 again.  Nothing erased and the same
 * next: ask again in a moment.  Gone is what was committed: a transaction that is open at the end of the purge may
 * bring more, which another purge erases.
 *
 * max_rows bounds the processes, or the rows of any other kind, of one call.
 *
 * Locks: one purge of a namespace at a time; process rows (skip locked).
 * Raises UP007: no such namespace.  UP010: it is not paused, max_rows is not 1 to 100000, or the transaction is not
 * read committed.
 */
create or replace function pgprog_engine._purge(
  namespace text, after bigint = 0, max_rows integer = 1000, out erased bigint, out next bigint)
language plpgsql
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  v_incarnations bigint[];
  v_task_ids bigint[];
  v_count bigint;
begin
  perform pgprog_engine._require_read_committed();
  if _purge.max_rows is null or _purge.max_rows not between 1 and 100000 then
    raise exception 'max_rows is %, 1 to 100000 are allowed', _purge.max_rows using errcode = 'UP010';
  end if;
  perform pg_advisory_xact_lock(hashtextextended('pgprog.purge ' || _purge.namespace, 0));
  perform pgprog_engine._require_paused(_purge.namespace);
  next := coalesce(_purge.after, 0);

  -- 1. Processes are gone for every reader, by their ids as the index has them.
  if exists (select 1 from pgprog_data.processes as p where p.namespace = _purge.namespace) then
    select array_agg(p.incarnation order by p.incarnation) into v_incarnations
    from (
      select f.incarnation from pgprog_data.processes as f
      where f.namespace = _purge.namespace
      order by f.process_id limit _purge.max_rows
    ) as first
    -- What locks stays a sub-select of its own: no plan begins with the processes.
    cross join lateral (
      select p.incarnation from pgprog_data.processes as p
      where p.incarnation = first.incarnation
      for update skip locked
    ) as p;
    if v_incarnations is not null then
      perform pgprog_engine._remove_processes(v_incarnations, 'removed', pgprog_engine._clock());
    end if;
    erased := coalesce(cardinality(v_incarnations), 0);
    return;
  end if;

  -- 2. What is left of them: events, ended tasks, and the note that they were removed.
  erased := pgprog_engine._erase_removed(
    _purge.namespace, pgprog_engine._clock() - interval '2 seconds', _purge.max_rows);
  if erased > 0 or exists (select 1 from pgprog_data.removals as r where r.namespace = _purge.namespace) then
    return;
  end if;

  -- 3. Keys.
  delete from pgprog_data.keys as k
  where k.ctid = any (array(
    select o.ctid from pgprog_data.keys as o where o.namespace = _purge.namespace limit _purge.max_rows));
  get diagnostics erased = row_count;
  if erased > 0 then
    return;
  end if;

  -- 4. What campaigns gave to each process: the notes of what became of them stay, as those of other operations do.
  update pgprog_data.campaigns as c
  set args = null
  where c.campaign_id = any (array(
    select o.campaign_id from pgprog_data.campaigns as o
    where o.namespace = _purge.namespace and o.args is not null
    order by o.campaign_id
    limit _purge.max_rows
  ));
  get diagnostics erased = row_count;
  if erased > 0 then
    return;
  end if;

  -- 5. Ended tasks of processes that were removed long ago: there is no index for them, all tasks are looked through.
  select array_agg(t.task_id) filter (where t.namespace = _purge.namespace), max(t.task_id), count(*)
  into v_task_ids, next, v_count
  from (
    select t.task_id, t.namespace from pgprog_data.tasks as t
    where t.task_id > coalesce(_purge.after, 0)
    order by t.task_id limit _purge.max_rows
  ) as t;
  erased := pgprog_engine._erase_tasks(v_task_ids);
  if v_count = _purge.max_rows then
    return;
  end if;

  -- 6. Open tasks of processes that are gone: a claim that let them become due held them when these went, or they
  -- were committed later.  No claim meets them, for the namespace is paused.  There is no index of the blocked ones
  -- by namespace: all open tasks are looked through.
  select
    array_agg(q.task_id) filter (where p.incarnation is null),
    array_agg(distinct q.incarnation) filter (where p.incarnation is null), count(*)
  into v_task_ids, v_incarnations, v_count
  from (
    select o.task_id, o.incarnation from pgprog_data.queue as o where o.namespace = _purge.namespace limit _purge.max_rows
  ) as q
  left join lateral (
    select p.incarnation from pgprog_data.processes as p where p.incarnation = any (array[q.incarnation]) limit 1
  ) as p on true;
  next := case when v_count > 0 then coalesce(_purge.after, 0) end;
  if v_incarnations is not null then
    insert into pgprog_data.removals (incarnation, namespace, removed_at)
    select x.incarnation, _purge.namespace, pgprog_engine._clock() from unnest(v_incarnations) as x(incarnation)
    on conflict (incarnation) do update set removed_at = excluded.removed_at;
    perform pgprog_engine._remove_processes(v_incarnations, 'removed', pgprog_engine._clock());
    erased := erased + cardinality(v_task_ids) - (
      select count(*) from pgprog_data.queue as q where q.task_id = any (v_task_ids));
  end if;
end
$$;

comment on function pgprog_engine._purge(text, bigint, integer)
  is 'Erase some of what a paused namespace holds; return how many rows, and where to go on, null when all is gone';
