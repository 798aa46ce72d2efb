/*
 * Note how the open repairs of a campaign have ended, and count them: the tasks say so, as long as they are there.
 *
 * The caller holds the campaign.  Index: campaign_items_open, tasks_by_id.
 */
create or replace function pgprog_engine._note_repairs(campaign_id bigint)
returns void
language sql
as $$
  with noted as (
    update pgprog_data.campaign_items as i
    set
      outcome = case
        when t.status = 'cancelled' then 'skipped'
        when t.status = 'finished' and t.error is null then 'repaired'
        else 'failed'
      end,
      detail = case
        when t.status is null then 'its task is not known any more'
        when t.status = 'finished' and t.error is not null then 'rejected'
        else coalesce(t.error ->> 'cause', t.error ->> 'detail')
      end
    from (
      select o.incarnation, o.task_id
      from pgprog_data.campaign_items as o
      where o.campaign_id = _note_repairs.campaign_id and o.asked_at is not null and o.outcome is null
    ) as o
    left join lateral (
      select t.status, t.error from pgprog_data.tasks as t
      where t.task_id = o.task_id limit 1
    ) as t on true
    where i.campaign_id = _note_repairs.campaign_id
      and i.incarnation = o.incarnation
      and (
        t.status is not null
        or not (
          exists (select 1 from pgprog_data.queue as q where q.task_id = o.task_id)
          or exists (select 1 from pgprog_data.timers as w where w.task_id = o.task_id)
          -- It may have ended since the look into the tasks.
          or exists (select 1 from pgprog_data.tasks as e where e.task_id = o.task_id)))
    returning i.outcome
  )
  update pgprog_data.campaigns as c
  set repaired = c.repaired + n.repaired, failed = c.failed + n.failed, skipped = c.skipped + n.skipped
  from (
    select
      count(*) filter (where d.outcome = 'repaired') as repaired, count(*) filter (where d.outcome = 'failed') as failed,
      count(*) filter (where d.outcome = 'skipped') as skipped
    from noted as d
  ) as n
  where c.campaign_id = _note_repairs.campaign_id
    and n.repaired + n.failed + n.skipped > 0
$$;

comment on function pgprog_engine._note_repairs(bigint) is 'Note how the open repairs of a campaign have ended';
