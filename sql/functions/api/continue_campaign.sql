/*
 * Note how repairs of a campaign have ended, and ask for more; return how it stands.
 *
 * At most max_items are asked for at once, and only while fewer than max_open have not ended: call it again and
 * again, each time in a transaction of its own, until to_do and open are 0; then the campaign has ended.  What is
 * asked for is noted in the same commit, so that a campaign that was cut off asks for each process once.
 * Skipped is who is not in error any more, or broke again since.
 *
 * Locks: the campaign, so that one continues it at a time, waited for 50 ms; of simple repairs the process rows (skip
 * locked): those that are locked elsewhere are left for later, and others asked for.
 * Indexes: campaign_items_open, campaign_items_to_do.
 * Raises UP010: there is no such campaign, a bound is out of its range, or the transaction is not read committed.
 */
create or replace function pgprog.continue_campaign(
  campaign_id bigint, max_items integer = 100, max_open integer = 100,
  out to_do bigint, out open bigint, out repaired bigint, out failed bigint, out skipped bigint)
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
set lock_timeout = '50ms'
set plan_cache_mode = force_generic_plan
set enable_hashjoin = off
set enable_mergejoin = off
set enable_seqscan = off
set enable_bitmapscan = off
as $$
#variable_conflict use_column
declare
  v_campaign pgprog_data.campaigns;
  v_open bigint;
begin
  perform pgprog_engine._require_read_committed();
  if continue_campaign.max_items < 0 or continue_campaign.max_open < 1 then
    raise exception 'max_items is at least 0, max_open 1' using errcode = 'UP010';
  end if;
  select c.* into v_campaign
  from pgprog_data.campaigns as c
  where c.campaign_id = continue_campaign.campaign_id
  for update;
  if not found then
    raise exception 'no campaign %', continue_campaign.campaign_id using errcode = 'UP010';
  end if;
  perform pgprog_engine._note_repairs(v_campaign.campaign_id);
  select count(*) into v_open
  from pgprog_data.campaign_items as i
  where i.campaign_id = v_campaign.campaign_id and i.asked_at is not null and i.outcome is null;
  if v_open < continue_campaign.max_open then
    perform pgprog_engine._ask_repairs(
      v_campaign, least(continue_campaign.max_items, continue_campaign.max_open - v_open)::integer);
  end if;
  select count(*) into open
  from pgprog_data.campaign_items as i
  where i.campaign_id = v_campaign.campaign_id and i.asked_at is not null and i.outcome is null;
  -- Those that have ended are not counted each time: a campaign may have a million.
  select c.items - open - c.repaired - c.failed - c.skipped, c.repaired, c.failed, c.skipped
  into to_do, repaired, failed, skipped
  from pgprog_data.campaigns as c
  where c.campaign_id = v_campaign.campaign_id;
  if to_do + open = 0 then
    update pgprog_data.campaigns as c
    set ended_at = pgprog_engine._clock()
    where c.campaign_id = v_campaign.campaign_id and c.ended_at is null;
  end if;
end
$$;

comment on function pgprog.continue_campaign(bigint, integer, integer)
  is 'Note how repairs of a campaign have ended, and ask for more; return how it stands';
