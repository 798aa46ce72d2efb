-- What the writer of the stress calls: it writes as steps do, by functions that are not those of the engine.

create schema stress;

create function stress.due_at(number bigint) returns timestamptz language sql immutable as
$$ select '2100-01-01 00:00+00'::timestamptz + number * interval '1 second' $$;

-- What the completion of a step changes, and its lock.
create function stress.step(namespace text, process_id text, added integer, metadata jsonb, state jsonb) returns bigint language plpgsql as $$
declare
  v_process pgprog_data.processes;
begin
  select p.* into strict v_process from pgprog_data.processes as p
  where p.namespace = step.namespace and p.process_id = step.process_id for no key update;
  insert into pgprog_data.events (incarnation, event_id, task_id, at, payload)
  select v_process.incarnation, v_process.last_event_id + g.n, 1, clock_timestamp(),
    jsonb_build_object('n', v_process.last_event_id + g.n, 'mark', step.metadata ->> 'mark')
  from generate_series(1, added) as g(n);
  update pgprog_data.processes as p set
    version = nextval('pgprog_data.versions'), last_event_id = p.last_event_id + added,
    metadata = step.metadata, state = coalesce(step.state, p.state), changed_at = clock_timestamp()
  where p.namespace = step.namespace and p.process_id = step.process_id
  returning p.* into v_process;
  insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
  values (v_process.incarnation, 'step', nextval('pgprog_data.task_ids'), step.namespace, step.process_id,
    'timeout', stress.due_at(v_process.last_event_id), clock_timestamp())
  on conflict on constraint timers_pkey do update set due_at = excluded.due_at, task_id = excluded.task_id;
  return v_process.version;
end
$$;

-- What the start of a timer changes, and its lock.
create function stress.start_timer(namespace text, process_id text)
returns bigint language plpgsql as $$
declare
  v_process pgprog_data.processes;
begin
  select p.* into strict v_process from pgprog_data.processes as p
  where p.namespace = start_timer.namespace and p.process_id = start_timer.process_id for no key update;
  delete from pgprog_data.timers as t where t.incarnation = v_process.incarnation and t.name = 'step';
  return v_process.version;
end
$$;

-- As a timer that comes back from a lost step: with no lock on its process.  Returns the life.
create function stress.set_free(namespace text, process_id text, number bigint)
returns bigint language sql as $$
  with process as (
    select p.incarnation, p.namespace, p.process_id, (p.metadata ->> 'life')::bigint as life
    from pgprog_data.processes as p
    where p.namespace = set_free.namespace and p.process_id = set_free.process_id),
  set as (
    insert into pgprog_data.timers (incarnation, name, task_id, namespace, process_id, type, due_at, created_at)
    select p.incarnation, 'free', nextval('pgprog_data.task_ids'), p.namespace, p.process_id, 'timeout',
      stress.due_at(number), clock_timestamp()
    from process as p
    on conflict (incarnation, name) do update set due_at = excluded.due_at, task_id = excluded.task_id)
  select life from process
$$;

create function stress.look(namespace text, process_id text, out mark text, out version bigint, out has_timer boolean)
returns setof record language sql as $$
  select p.metadata ->> 'mark', p.version,
    exists (select from pgprog_data.timers as t where t.incarnation = p.incarnation and t.name = 'step')
  from pgprog_data.processes as p
  where p.namespace = look.namespace and p.process_id = look.process_id
$$;
