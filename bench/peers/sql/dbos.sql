-- left: what is to be done yet
select count(*) from dbos.workflow_status where status in ('ENQUEUED', 'PENDING', 'DELAYED')

-- clone: more like the newest that waits, each a millisecond later
with one as (
  select * from dbos.workflow_status where status = 'ENQUEUED' order by created_at desc limit 1),
made as (
  insert into dbos.workflow_status
  select (r).* from (
    select jsonb_populate_record(null::dbos.workflow_status, to_jsonb(one) || jsonb_build_object(
      'workflow_uuid', gen_random_uuid()::text, 'created_at', one.created_at + g)) as r
    from one, generate_series(1, %(count)s) as g) as x
  returning workflow_uuid)
insert into dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
select made.workflow_uuid, i.inputs, i.retention_timestamp
from made, one join dbos.workflow_input as i using (workflow_uuid)

-- age: workflows come, each a millisecond before the one that waits,
with one as (
  select * from dbos.workflow_status where status = 'ENQUEUED' order by created_at desc limit 1),
made as (
  insert into dbos.workflow_status
  select (r).* from (
    select jsonb_populate_record(null::dbos.workflow_status, to_jsonb(one) || jsonb_build_object(
      'workflow_uuid', gen_random_uuid()::text, 'created_at', one.created_at - g)) as r
    from one, generate_series(1, %(count)s) as g) as x
  returning workflow_uuid)
insert into dbos.workflow_input (workflow_uuid, inputs, retention_timestamp)
select made.workflow_uuid, i.inputs, i.retention_timestamp
from made, one join dbos.workflow_input as i using (workflow_uuid)

-- age: are dequeued,
update dbos.workflow_status
set status = 'PENDING', executor_id = 'x', started_at_epoch_ms = created_at, updated_at = created_at
where status = 'ENQUEUED' and created_at < (select max(created_at) from dbos.workflow_status)

-- age: and end; their rows stay
with ended as (
  update dbos.workflow_status set status = 'SUCCESS', completed_at = created_at
  where status = 'PENDING'
  returning workflow_uuid)
insert into dbos.workflow_output (workflow_uuid, output, retention_timestamp)
select workflow_uuid, 'null', 0 from ended
