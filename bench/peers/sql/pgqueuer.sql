-- left: what is to be done yet
select count(*) from pgqueuer

-- age: jobs come,
with made as (
  insert into pgqueuer (priority, status, entrypoint, payload)
  select 0, 'queued', 'tick', '\x7b7d' from generate_series(1, %(count)s)
  returning id)
insert into pgqueuer_log (job_id, status, entrypoint, priority)
select id, 'queued', 'tick', 0 from made

-- age: are picked,
with taken as (
  update pgqueuer set status = 'picked', queue_manager_id = gen_random_uuid()
  where status = 'queued'
  returning id)
insert into pgqueuer_log (job_id, status, entrypoint, priority)
select id, 'picked', 'tick', 0 from taken

-- age: and go; the log stays
with gone as (delete from pgqueuer where status = 'picked' returning id)
insert into pgqueuer_log (job_id, status, entrypoint, priority)
select id, 'successful', 'tick', 0 from gone
