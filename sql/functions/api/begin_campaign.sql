/*
 * Begin to repair all processes in error that broken_processes finds by this filter; return the campaign.
 *
 * They are fixed here; what breaks later is for another campaign.  Nothing is repaired yet: continue_campaign asks.
 * kind: repair, by the handlers, with name, args and priority for each; or simple_repair, which has none of these.
 *
 * Raises UP007: no such namespace.  UP010: the kind is neither, or a simple repair has a name or args.
 */
create or replace function pgprog.begin_campaign(
  namespace text, kind text = 'repair', name text = null, args jsonb = null, priority integer = 0,
  error_type text = null, detail_like text = null, since timestamptz = null, reason text = null)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pgprog, pg_temp
as $$
#variable_conflict use_column
declare
  v_campaign_id bigint;
begin
  perform pgprog_engine._require_caller(begin_campaign.namespace);
  if begin_campaign.kind is distinct from 'repair' and begin_campaign.kind is distinct from 'simple_repair' then
    raise exception 'a campaign is repair or simple_repair, not %', begin_campaign.kind using errcode = 'UP010';
  end if;
  if begin_campaign.kind = 'simple_repair' and (begin_campaign.name is not null or begin_campaign.args is not null) then
    raise exception 'a simple repair has neither name nor args' using errcode = 'UP010';
  end if;
  insert into pgprog_data.campaigns (namespace, kind, name, args, priority, filter, began_at, reason)
  values (
    begin_campaign.namespace, begin_campaign.kind, begin_campaign.name, begin_campaign.args,
    coalesce(begin_campaign.priority, 0),
    jsonb_strip_nulls(jsonb_build_object(
      'error_type', begin_campaign.error_type, 'detail_like', begin_campaign.detail_like, 'since', begin_campaign.since)),
    pgprog_engine._clock(), begin_campaign.reason)
  returning campaign_id into v_campaign_id;
  with items as (
    insert into pgprog_data.campaign_items (campaign_id, incarnation, process_id, corrupted_by)
    select v_campaign_id, b.incarnation, b.process_id, b.task_id
    from pgprog.broken_processes(
      begin_campaign.namespace, begin_campaign.error_type, begin_campaign.detail_like, begin_campaign.since) as b
    returning incarnation
  )
  update pgprog_data.campaigns as c
  set items = (select count(*) from items)
  where c.campaign_id = v_campaign_id;
  return v_campaign_id;
end
$$;

comment on function pgprog.begin_campaign(text, text, text, jsonb, integer, text, text, timestamptz, text)
  is 'Begin to repair all processes in error that are found by this filter; return the campaign';
