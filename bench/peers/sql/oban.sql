-- left: what is to be done yet
select count(*) from oban_jobs where state not in ('completed', 'discarded', 'cancelled')

-- clone: more like the one that waits
insert into oban_jobs (worker, args, state)
select worker, args, 'available' from oban_jobs, generate_series(1, %(count)s)
where state = 'available'

-- age: jobs come,
insert into oban_jobs (worker, args, state)
select 'bench.peers.adapters.oban.Tick', '{"i": 1}', 'available'
from generate_series(1, %(count)s)

-- age: are fetched,
update oban_jobs
set state = 'executing', attempt = 1, attempted_at = timezone('UTC', now()), attempted_by = '{a,b}'
where state = 'available'

-- age: and end; their rows stay
update oban_jobs set state = 'completed', completed_at = timezone('UTC', now())
where state = 'executing'
