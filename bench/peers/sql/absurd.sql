-- left: what is to be done yet
select count(*) from absurd.t_default where state not in ('completed', 'failed', 'cancelled')

-- clone: more like the one that waits
select count(t.task_id)
from absurd.t_default as one, generate_series(1, %(count)s) as g,
  lateral absurd.spawn_task(
    'default', 'tick', one.params || jsonb_build_object('i', g), '{}') as t
where one.state = 'pending'

-- age: tasks come,
select count(t.task_id)
from generate_series(1, %(count)s) as g,
  lateral absurd.spawn_task('default', 'tick', jsonb_build_object('i', g), '{}') as t

-- age: are claimed,
with taken as (
  update absurd.r_default
  set state = 'running', claimed_by = 'x', claim_expires_at = now() + interval '1 hour',
    started_at = now()
  where state = 'pending'
  returning task_id, run_id)
update absurd.t_default as t
set state = 'running', attempts = 1, first_started_at = now(), last_attempt_run = taken.run_id
from taken where t.task_id = taken.task_id

-- age: their runs end,
update absurd.r_default set state = 'completed', completed_at = now(), result = 'null'
where state = 'running'

-- age: and they; their rows stay
update absurd.t_default set state = 'completed', completed_payload = 'null' where state = 'running'
