"""Each alert of deploy/ fires by its cause and ends with it, in a real Prometheus.

All of them by `make alerts`; `make test` asks for one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.alerting import ROOT, RULES, World, missing
from tests.integration.streams import END_STREAMS

from pgprog.config.sources import read_file
from pgprog.metrics.names import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DASHBOARD = ROOT / "deploy/grafana/dashboards/pgprog.json"
GUIDE = ROOT / "docs/operations/alerts.md"

# Nobody is listed, all that were listed are gone, and one that answers.
UNIT_TESTS = """
rule_files: ["{rules}"]
evaluation_interval: 15s
tests:
  - interval: 15s
    alert_rule_test: &down
      - eval_time: 2m
        alertname: PgprogDown
        exp_alerts:
          - exp_labels: {{job: pgprog, severity: critical}}
            exp_annotations:
              summary: "no target of job pgprog is listed"
              runbook: "{runbook}"
  - interval: 15s
    input_series: [{{series: 'up{{job="pgprog", instance="w:9100"}}', values: "1 1 stale"}}]
    alert_rule_test: *down
  - interval: 15s
    input_series: [{{series: 'up{{job="pgprog", instance="w:9100"}}', values: "1x20"}}]
    alert_rule_test: [{{eval_time: 2m, alertname: PgprogDown, exp_alerts: []}}]
  - interval: 15s
    input_series:
      - {{series: 'up{{job="pgprog", instance="w:9100"}}', values: "1x20"}}
      - {{series: 'up{{job="pgprog", instance="x:9100"}}', values: "0x20"}}
    alert_rule_test:
      - eval_time: 2m
        alertname: PgprogDown
        exp_alerts:
          - exp_labels: {{job: pgprog, severity: critical, instance: "x:9100"}}
            exp_annotations: {{summary: "x:9100 does not answer", runbook: "{runbook}"}}
"""

needs_prometheus = pytest.mark.skipif(bool(missing()), reason=missing() or "it is installed")
# Minutes of waiting for windows to pass.
whole = pytest.mark.skipif(not os.environ.get("PGPROG_ALERTS"), reason="make alerts")
provoked: set[str] = set()


def alerts() -> list[dict[str, Any]]:
    text: Any = read_file(RULES)
    found: list[dict[str, Any]] = text["groups"][0]["rules"]
    return found


def queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [q.replace("$__rate_interval", "5s").replace("$namespace", ".*") for q in found]


@pytest.fixture(scope="module")
def world(module_db: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(module_db, tmp_path_factory.mktemp("alerts")) as world:
        world.client.init("shop", "first")
        yield world


@needs_prometheus
def test_promtool_finds_no_fault_in_the_rules() -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", "--lint=all", str(RULES)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


@needs_prometheus
def test_a_job_of_which_no_target_is_left_is_down_too(tmp_path: Path) -> None:
    [down] = [alert for alert in alerts() if alert["alert"] == "PgprogDown"]
    written = tmp_path / "tests.yml"
    runbook = down["annotations"]["runbook"]
    written.write_text(UNIT_TESTS.format(rules=RULES, runbook=runbook))

    tested = subprocess.run(
        ["promtool", "test", "rules", str(written)], capture_output=True, text=True, check=False
    )

    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    asked = "\n".join([*queries(), *(alert["expr"] for alert in alerts())])
    names = {
        re.sub("_(bucket|sum|count)$", "", name) if "seconds_" in name else name
        for name in re.findall(r"\bpgprog_\w+", asked)
    }

    assert names - METRICS.keys() == set()
    # What the dashboard leaves out nobody would look at.
    assert METRICS.keys() - names == set()


def test_every_alert_has_a_runbook_and_the_guide_has_a_section_for_it() -> None:
    guide = GUIDE.read_text()
    for alert in alerts():
        name = alert["alert"]
        assert alert["annotations"]["runbook"].startswith(
            f"docs/operations/alerts.md#{name.lower()}: "
        )
        assert f"## {name}\n" in guide


@needs_prometheus
@pytest.mark.slow  # programs are started
def test_a_pause_fires_its_alert_and_prometheus_has_all_that_the_dashboard_asks_for(
    world: World,
) -> None:
    assert "PgprogPaused" not in world.firing()
    world.client.init("shop", "pause")
    with world.sql() as sql:
        sql.execute("select pgprog.pause('shop', 'stock-taking')")
        world.wait_firing("PgprogPaused")
        sql.execute("select pgprog.resume('shop')")
    for query in queries():
        world.ask("query", query=query)
    world.wait_ended("PgprogPaused")
    provoked.add("PgprogPaused")

    scraped = {*world.ask("label/__name__/values")}
    plain = {name for name, each in METRICS.items() if each.kind != "histogram"}
    assert plain - scraped == {"pgprog_reader_up", "pgprog_reader_clients"}  # there is no reader
    histograms = {f"{name}_count" for name in METRICS.keys() - plain}
    later = {"pgprog_process_removing_duration_seconds_count"}  # nobody removed anything
    assert histograms - scraped <= later


@whole
@needs_prometheus
def test_a_step_that_breaks_its_process(world: World) -> None:
    world.client.init("shop", "broken")
    with pytest.raises(Exception, match="no answer"):
        world.client.call("shop", "broken", name="fail")
    world.wait_firing("PgprogProcessesInErrorRising", "PgprogTasksFailing")
    world.client.simple_repair("shop", "broken")
    world.wait_ended("PgprogProcessesInErrorRising", "PgprogTasksFailing")
    provoked.update({"PgprogProcessesInErrorRising", "PgprogTasksFailing"})


@whole
@needs_prometheus
def test_settings_under_which_tasks_fail(world: World) -> None:
    names = [f"bad-{number}" for number in range(20)]
    for name in names:
        world.client.init("shop", name)
    with world.sql() as sql:
        sql.execute(
            "select pgprog.set_settings(namespace, settings || '{\"rollback_above\": 0.5}')"
            " from pgprog.namespaces where namespace = 'shop'"
        )
    for name in names:
        world.client.submit("call", "shop", name, name="fail")
    world.wait_firing("PgprogSettingsTakenBack")
    for name in names:
        world.client.simple_repair("shop", name)
    world.wait_ended("PgprogSettingsTakenBack", "PgprogProcessesInErrorRising")
    provoked.add("PgprogSettingsTakenBack")


@whole
@needs_prometheus
def test_a_timer_that_starts_minutes_after_its_time(world: World) -> None:
    world.client.init("shop", "late")
    world.client.call("shop", "late", name="be_late")
    world.wait_firing("PgprogTimersLate")
    world.wait_ended("PgprogTimersLate")
    provoked.add("PgprogTimersLate")


@whole
@needs_prometheus
def test_a_handler_that_kills_its_worker(world: World) -> None:
    world.client.init("shop", "deadly")
    world.client.submit("call", "shop", "deadly", name="die")
    world.wait_firing("PgprogWorkersFalling", "PgprogZombies")
    world.wait_ended("PgprogWorkersFalling", "PgprogZombies")
    provoked.update({"PgprogWorkersFalling", "PgprogZombies"})


@whole
@needs_prometheus
def test_a_worker_that_stands_still_for_longer_than_its_lease(world: World) -> None:
    def pids() -> list[int]:
        return [int(each.suffix[1:]) for each in world.place.glob("hangs.*")]

    world.client.init("shop", "still")
    world.client.submit("call", "shop", "still", name="hang")
    while not pids():
        pass
    [first] = pids()
    os.kill(first, signal.SIGSTOP)
    try:
        while len(pids()) < 2:
            threading.Event().wait(0.1)
    finally:
        os.kill(first, signal.SIGCONT)
    world.wait_firing("PgprogClaimsLost")
    (world.place / "free").touch()
    world.wait_ended("PgprogClaimsLost")
    provoked.add("PgprogClaimsLost")


@whole
@needs_prometheus
def test_workers_that_are_gone_and_what_they_leave_undone(world: World) -> None:
    world.client.init("shop", "left")
    world.stop_workers(signal.SIGKILL)
    world.client.submit("call", "shop", "left", name="ping")
    with world.sql() as sql:  # or five minutes would have to pass
        sql.execute("update pgprog_data.queue set due_at = due_at - interval '5 minutes'")
    names = ("PgprogDown", "PgprogUnserved", "PgprogQueueOld")
    world.wait_firing(*names)
    world.start_workers()
    world.wait_ended(*names)
    provoked.update(names)


@whole
@needs_prometheus
def test_a_transaction_that_holds_the_only_connection_of_a_pool(world: World) -> None:
    first = world.client.submit("init", "letters", "a")
    world.open.wait()
    second = world.client.submit("init", "letters", "b")
    world.wait_firing("PgprogPoolExhausted")
    world.free.set()
    first.wait()
    second.wait()
    world.wait_ended("PgprogPoolExhausted")
    provoked.add("PgprogPoolExhausted")


@whole
@needs_prometheus
def test_a_stream_that_is_refused(world: World) -> None:
    world.wait_ended("PgprogReplicationLag")
    with world.sql() as sql:
        sql.execute("drop publication pgprog_processes")
        sql.execute(END_STREAMS)
        world.wait_firing("PgprogReplicationLag")
        sql.execute((ROOT / "sql/publication.sql").read_bytes())
    world.wait_ended("PgprogReplicationLag")
    provoked.add("PgprogReplicationLag")


@whole
@needs_prometheus
def test_a_database_that_takes_no_connections(world: World, admin: Any, module_db: str) -> None:
    name = re.sub(r".*dbname=(\S+).*", r"\1", module_db)
    admin.execute(f"alter database {name} allow_connections false".encode())
    try:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
        )
        world.wait_firing("PgprogDatabaseDown")
    finally:
        admin.execute(f"alter database {name} allow_connections true".encode())
    world.wait_ended("PgprogDatabaseDown")
    provoked.add("PgprogDatabaseDown")


@whole
@needs_prometheus
def test_no_alert_is_left_that_nobody_has_seen_fire() -> None:
    assert provoked == {alert["alert"] for alert in alerts()}
