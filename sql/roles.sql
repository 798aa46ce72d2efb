-- Roles of pgprog and what each may do; for a DBA, once in each database.  Safe to repeat.
--
-- psql -f roles.sql, as a role that may create roles and owns the schemas.  Roles are of the whole
-- server, grants of this database.  Nothing is executable by PUBLIC: the migration sees to that.
-- Give a login role one of them: grant pgprog_app to shop;
-- docs/operations/rights.md has all of it in one table.

do $$
begin
  -- Of the whole server: another database may be making the same roles at this moment.
  begin
    if to_regrole('pgprog_owner') is null then
      create role pgprog_owner nologin;
    end if;
    if to_regrole('pgprog_worker') is null then
      create role pgprog_worker nologin;
    end if;
    if to_regrole('pgprog_app') is null then
      create role pgprog_app nologin;
    end if;
    if to_regrole('pgprog_operator') is null then
      create role pgprog_operator nologin;
    end if;
    if to_regrole('pgprog_viewer') is null then
      create role pgprog_viewer nologin;
    end if;
    if to_regrole('pgprog_payload_viewer') is null then
      create role pgprog_payload_viewer nologin;
    end if;
    if to_regrole('pgprog_replicator') is null then
      create role pgprog_replicator nologin;
    end if;
  exception when unique_violation or duplicate_object then
    raise exception 'the roles of pgprog are being made elsewhere' using errcode = '55P03', hint = 'run this again';
  end;
end
$$;

-- Who owns the schema, if `pgprog db migrate` runs as it: nothing that it makes is executable by PUBLIC, not even
-- for a moment.
do $$
begin
  if pg_has_role('pgprog_owner', 'usage') then
    alter default privileges for role pgprog_owner revoke execute on functions from public;
  end if;
end
$$;

-- A worker may what applications may, an operator and who reads payloads what viewers may.
grant pgprog_app to pgprog_worker;
grant pgprog_viewer to pgprog_payload_viewer;
grant pgprog_payload_viewer to pgprog_operator;

-- RIGHTS: where this file was run once, each migration gives what follows again.  What a former version gave ends.
revoke all on all functions in schema pgprog, pgprog_engine
  from pgprog_app, pgprog_worker, pgprog_operator, pgprog_viewer, pgprog_payload_viewer, pgprog_replicator;
revoke all on all tables in schema pgprog
  from pgprog_app, pgprog_worker, pgprog_operator, pgprog_viewer, pgprog_payload_viewer, pgprog_replicator;

-- Applications: what requests and reads by id.
grant usage on schema pgprog to pgprog_app;
grant execute on function
  pgprog.init, pgprog.call, pgprog.notify, pgprog.submit_many, pgprog.cancel, pgprog.result, pgprog.results, pgprog.get,
  pgprog.history, pgprog.schema_version, pgprog.replication_state
to pgprog_app;

-- Workers: the engine's functions; none of the internal ones.
grant usage on schema pgprog_engine to pgprog_worker;
grant execute on function
  pgprog_engine.register_worker, pgprog_engine.renew_worker, pgprog_engine.tell_log_level, pgprog_engine.deregister_worker, pgprog_engine.end_worker,
  pgprog_engine.claim, pgprog_engine.first_rank, pgprog_engine.newest_events, pgprog_engine.history,
  pgprog_engine.start, pgprog_engine.complete, pgprog_engine.hand_back, pgprog_engine.report_crash, pgprog_engine.list_workers,
  pgprog_engine.first_trace, pgprog_engine.collect_zombies, pgprog_engine.maintain, pgprog_engine.drop_old, pgprog_engine.erase_old,
  pgprog_engine.measure_queues, pgprog_engine.judge_settings, pgprog_engine.gauges, pgprog_engine.oldest_served, pgprog.health
to pgprog_worker;
grant select on pgprog.namespaces to pgprog_worker;
-- A worker creates what is missing, and takes its configuration over when it is told to (SIGHUP).
grant execute on function pgprog.set_settings to pgprog_worker;

-- Viewers: no payloads; what counts and explains has none.
grant usage on schema pgprog to pgprog_viewer;
grant select on pgprog.namespaces, pgprog.settings_history, pgprog.audit, pgprog.campaigns, pgprog.campaign_results,
  pgprog.processes, pgprog.tasks, pgprog.timers, pgprog.workers to pgprog_viewer;
grant execute on function pgprog.stats, pgprog.explain, pgprog.health, pgprog.schema_version to pgprog_viewer;
-- A function in a view is executed with the rights of who reads it.
grant execute on function pgprog_engine._status_of to pgprog_viewer;

grant select on pgprog.process_payloads, pgprog.event_payloads to pgprog_payload_viewer;
grant execute on function pgprog.get, pgprog.history, pgprog.trace, pgprog.result, pgprog.results to pgprog_payload_viewer;

-- Operators: all of schema pgprog.
grant execute on all functions in schema pgprog to pgprog_operator;
grant select on all tables in schema pgprog to pgprog_operator;

-- Readers of the replication stream.  Their login role needs REPLICATION itself, which no role passes on:
-- create role shop_reader login replication in role pgprog_replicator.  Treat it as privileged: it is sent
-- every row of every publication of the database, whatever it may select.
grant usage on schema pgprog to pgprog_replicator;
grant execute on function pgprog.replication_state to pgprog_replicator;
