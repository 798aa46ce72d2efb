-- left: what is to be done yet
select count(*) from chancy_jobs where state in ('pending', 'running', 'retrying')

-- clone: more like the one that waits
insert into chancy_jobs (id, queue, func, kwargs)
select gen_random_uuid(), queue, func, kwargs from chancy_jobs, generate_series(1, %(count)s)
where state = 'pending'

-- age: jobs come,
insert into chancy_jobs (id, queue, func, kwargs)
select gen_random_uuid(), 'default', 'bench.peers.adapters.chancy.tick', '{"i": 1}'
from generate_series(1, %(count)s)

-- age: are fetched,
update chancy_jobs set state = 'running', started_at = now(), taken_by = 'x', attempts = 1
where state = 'pending'

-- age: and end; their rows stay
update chancy_jobs set state = 'succeeded', completed_at = now() where state = 'running'
