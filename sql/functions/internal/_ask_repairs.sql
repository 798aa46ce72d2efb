/*
 * Ask for the next repairs of a campaign, at most max_items, and note each in the same commit; those that have ended
 * by that are counted.
 *
 * Skipped is who is gone, not in error any more, or was broken again by another task.  A process row that is locked
 * elsewhere is left for later, and another asked for, past a thousand of them: only simple repairs lock it.  The caller
 * holds the campaign.
 * Index: campaign_items_to_do.
 */
create or replace function pgprog_engine._ask_repairs(campaign pgprog_data.campaigns, max_items integer)
returns void
language plpgsql
as $$
#variable_conflict use_column
declare
  v_item record;
  v_left integer := _ask_repairs.max_items;
  v_task_id bigint;
  v_outcome text;
  v_detail text;
  v_repaired integer := 0;
  v_failed integer := 0;
  v_skipped integer := 0;
begin
  for v_item in
    select i.incarnation, i.process_id, i.corrupted_by, p.status, p.corrupted_by as broken_by
    from (
      select i.* from pgprog_data.campaign_items as i
      where i.campaign_id = (_ask_repairs.campaign).campaign_id and i.asked_at is null and i.outcome is null
      order by i.incarnation limit _ask_repairs.max_items + 1000
    ) as i
    left join pgprog_data.processes as p on p.incarnation = any (array[i.incarnation])
    order by i.incarnation
  loop
    exit when v_left <= 0;
    v_task_id := null;
    v_outcome := null;
    v_detail := null;
    if v_item.status is null then
      v_outcome := 'skipped';
      v_detail := 'removed';
    elsif v_item.status <> 'error' then
      v_outcome := 'skipped';
      v_detail := 'process not in error';
    elsif v_item.broken_by is distinct from v_item.corrupted_by then
      v_outcome := 'skipped';
      v_detail := format('broken again by task %s', v_item.broken_by);
    else
      begin
        if (_ask_repairs.campaign).kind = 'repair' then
          v_task_id := pgprog.repair(
            (_ask_repairs.campaign).namespace, v_item.process_id, (_ask_repairs.campaign).args,
            (_ask_repairs.campaign).name, priority => (_ask_repairs.campaign).priority);
        else
          perform 1 from pgprog_data.processes as p where p.incarnation = v_item.incarnation for no key update skip locked;
          continue when not found;
          v_task_id := pgprog.simple_repair((_ask_repairs.campaign).namespace, v_item.process_id);
          v_outcome := case when v_task_id is null then 'repaired' end;
        end if;
      exception
        when sqlstate 'UP001' or sqlstate 'UP003' then
          v_outcome := 'skipped';
          v_detail := sqlerrm;
        when sqlstate 'UP009' or sqlstate 'UP010' or sqlstate 'UP011' then
          v_outcome := 'failed';
          v_detail := sqlerrm;
      end;
    end if;
    update pgprog_data.campaign_items as i
    set task_id = v_task_id, asked_at = pgprog_engine._clock(), outcome = v_outcome, detail = v_detail
    where i.campaign_id = (_ask_repairs.campaign).campaign_id
      and i.incarnation = v_item.incarnation;
    v_left := v_left - 1;
    v_repaired := v_repaired + (v_outcome is not distinct from 'repaired')::integer;
    v_failed := v_failed + (v_outcome is not distinct from 'failed')::integer;
    v_skipped := v_skipped + (v_outcome is not distinct from 'skipped')::integer;
  end loop;
  update pgprog_data.campaigns as c
  set repaired = c.repaired + v_repaired, failed = c.failed + v_failed, skipped = c.skipped + v_skipped
  where c.campaign_id = (_ask_repairs.campaign).campaign_id
    and v_repaired + v_failed + v_skipped > 0;
end
$$;

comment on function pgprog_engine._ask_repairs(pgprog_data.campaigns, integer) is 'Ask for the next repairs of a campaign, and note each in the same commit';
