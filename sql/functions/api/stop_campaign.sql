/*
 * Ask for no more repairs of a campaign; return how many processes are left as they are.
 *
 * What was asked for ends by itself; continue_campaign goes on to note it.  Where nothing is open the campaign has
 * ended.
 *
 * Locks: the campaign.  Raises UP010: there is no such campaign.
 * UP015: its namespace is for other roles.
 */
create or replace function pgprog.stop_campaign(campaign_id bigint)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_count bigint;
begin
  perform pgprog_engine._require_caller(c.namespace)
  from pgprog_data.campaigns as c where c.campaign_id = stop_campaign.campaign_id;
  perform 1 from pgprog_data.campaigns as c where c.campaign_id = stop_campaign.campaign_id for update;
  if not found then
    raise exception 'no campaign %', stop_campaign.campaign_id using errcode = 'UP010';
  end if;
  update pgprog_data.campaign_items as i
  set outcome = 'skipped', detail = 'campaign stopped'
  where i.campaign_id = stop_campaign.campaign_id
    and i.asked_at is null
    and i.outcome is null;
  get diagnostics v_count = row_count;
  update pgprog_data.campaigns as c
  set skipped = c.skipped + v_count
  where c.campaign_id = stop_campaign.campaign_id
    and v_count > 0;
  update pgprog_data.campaigns as c
  set ended_at = pgprog_engine._clock()
  where c.campaign_id = stop_campaign.campaign_id
    and c.ended_at is null
    and not exists (
      select from pgprog_data.campaign_items as i where i.campaign_id = c.campaign_id and i.outcome is null);
  perform pgprog_engine._audit(
    'stop_campaign', c.namespace, null, null, jsonb_build_object('campaign_id', c.campaign_id), to_jsonb(v_count))
  from pgprog_data.campaigns as c
  where c.campaign_id = stop_campaign.campaign_id;
  return v_count;
end
$$;

comment on function pgprog.stop_campaign(bigint)
  is 'Ask for no more repairs of a campaign; return how many processes are left as they are';
