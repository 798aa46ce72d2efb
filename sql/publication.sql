-- The publications that readers follow, by `pgprog db migrate` where it may, else by a DBA.  Safe to repeat.
--
-- psql -f publication.sql, as the owner of the tables with CREATE on the database.  One that exists is
-- brought to this definition.  Without them everything works: reads and wake-ups ask the tables.
-- A publication costs nothing until a reader follows it, and that needs wal_level = logical.
-- Locks: SHARE UPDATE EXCLUSIVE on the tables, which stops no reads and no writes.

do $$
declare
  v_name text;
begin
  foreach v_name in array array['pgprog_processes', 'pgprog_events', 'pgprog_wakeups', 'pgprog_answers'] loop
    if not exists (select from pg_publication as p where p.pubname = v_name) then
      execute format('create publication %I', v_name);
    end if;
  end loop;
end
$$;

-- What a cache keeps of processes.  No row filter: on anything but the key it would make updates fail.
alter publication pgprog_processes set table pgprog_data.processes, pgprog_data.timers;
alter publication pgprog_processes set (publish = 'insert, update, delete, truncate');

-- Their history, apart: events of removed processes are deleted in the background, which tells nothing.
alter publication pgprog_events set table pgprog_data.events;
alter publication pgprog_events set (publish = 'insert, truncate');

-- For those who start tasks, and for those who wait for answers: no payloads.  The table of timers is
-- whole, since a reader of two publications may not get two lists of its columns.
alter publication pgprog_wakeups set (publish = 'insert');
alter publication pgprog_answers set (publish = 'insert', publish_via_partition_root = true);
do $$
begin
  if current_setting('server_version_num')::integer >= 150000 then
    execute $thin$
      alter publication pgprog_wakeups set table
        pgprog_data.queue (task_id, namespace, status, due_at) where (status in ('w', 'f')), pgprog_data.timers;
      alter publication pgprog_answers set table pgprog_data.tasks (task_id, namespace);
    $thin$;
  else
    -- PostgreSQL 14 has neither lists of columns nor conditions: readers get more than they need.
    alter publication pgprog_wakeups set table pgprog_data.queue, pgprog_data.timers;
    alter publication pgprog_answers set table pgprog_data.tasks;
  end if;
end
$$;
