-- left: what is to be done yet
select count(*) from procrastinate_jobs where status in ('todo', 'doing')

-- age: jobs come,
insert into procrastinate_jobs (queue_name, task_name, args)
select 'default', 'tick', '{"i": 1}' from generate_series(1, %(count)s)

-- age: are fetched,
update procrastinate_jobs set status = 'doing' where status = 'todo'

-- age: and end; their rows stay
update procrastinate_jobs set status = 'succeeded', attempts = attempts + 1 where status = 'doing'
