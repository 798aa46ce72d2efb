-- How many items of a campaign have ended, and how: each step of one counted them all.
-- Locks: pgprog_data.campaigns (access exclusive), while the items of all campaigns are counted once.

alter table pgprog_data.campaigns
  add column repaired bigint not null default 0,
  add column failed bigint not null default 0,
  add column skipped bigint not null default 0;

update pgprog_data.campaigns as c
set repaired = n.repaired, failed = n.failed, skipped = n.skipped
from (
  select
    i.campaign_id, count(*) filter (where i.outcome = 'repaired') as repaired,
    count(*) filter (where i.outcome = 'failed') as failed, count(*) filter (where i.outcome = 'skipped') as skipped
  from pgprog_data.campaign_items as i
  where i.outcome is not null
  group by i.campaign_id
) as n
where n.campaign_id = c.campaign_id;
