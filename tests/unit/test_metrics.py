"""What is counted, how several workers' figures become one, and how the parts of a worker are."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.claims import make_claim

from pgprog.metrics import Metrics, Sample, merged
from pgprog.metrics.exposition import registry_of, text_of
from pgprog.metrics.names import BOUNDS, METRICS
from pgprog.metrics.parts import Part, Parts
from pgprog.metrics.samples import lasting
from pgprog.store.measuring import measure_claim, measure_completions
from pgprog.store.rows import Completed, Completion, Outcome

WAIT = "pgprog_task_wait_seconds"
DUE = datetime(2026, 1, 1, tzinfo=UTC)
# As section 12 of the specification has them.
HISTOGRAMS = {
    "pgprog_calls_scanning_duration_seconds",
    "pgprog_timers_scanning_duration_seconds",
    "pgprog_zombie_collection_duration_seconds",
    "pgprog_request_preparing_duration_seconds",
    "pgprog_task_processing_duration_seconds",
    "pgprog_task_completion_duration_seconds",
    "pgprog_process_removing_duration_seconds",
    "pgprog_notification_duration_seconds",
    "pgprog_task_wait_seconds",
    "pgprog_timer_lateness_seconds",
}
COUNTERS = {
    "pgprog_tasks_total",
    "pgprog_retries_total",
    "pgprog_zombies_total",
    "pgprog_claims_lost_total",
    "pgprog_cache_requests_total",
    "pgprog_replication_reconnects_total",
}
GAUGES = {
    "pgprog_queue_tasks",
    "pgprog_oldest_due_age_seconds",
    "pgprog_steps_busy",
    "pgprog_processes_in_error",
    "pgprog_replication_lag_seconds",
    "pgprog_replication_lag_bytes",
    "pgprog_cache_bytes",
    "pgprog_cache_entries",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.mark.parametrize(
    ("kind", "names"), [("histogram", HISTOGRAMS), ("counter", COUNTERS), ("gauge", GAUGES)]
)
def test_every_metric_of_the_specification_is_there_by_its_name(kind: str, names: set[str]) -> None:
    assert {name for name in names if METRICS[name].kind != kind} == set()


def test_the_guide_lists_every_metric_as_it_is() -> None:
    guide = (Path(__file__).parents[2] / "docs/operations/metrics.md").read_text()
    rows = {
        f"| `{name}` | {', '.join(each.labels)} | {each.kind}. {each.help_} |"
        for name, each in METRICS.items()
    }

    assert rows - {*guide.splitlines()} == set()


def test_buckets_are_in_seconds_and_begin_at_half_a_millisecond() -> None:
    assert BOUNDS[0] == 0.0005
    assert [*BOUNDS] == sorted({*BOUNDS})


def test_a_histogram_counts_each_value_below_the_bounds_that_it_does_not_pass(
    metrics: Metrics,
) -> None:
    series = metrics.task_processing["shop", "call"]
    series.observe(0.0005)
    series.observe(0.03, 3)
    series.observe(1000.0)

    text = text_of(metrics.samples()).decode()

    name = 'pgprog_task_processing_duration_seconds_bucket{le="%s",namespace="shop",type="call"} %s'
    for bound, count in (("0.0005", 1.0), ("0.025", 1.0), ("0.05", 4.0), ("300.0", 4.0)):
        assert name % (bound, count) in text
    assert name % ("+Inf", 5.0) in text
    assert 'seconds_sum{namespace="shop",type="call"} 1000.0905' in text


def test_what_was_added_by_many_threads_is_counted_once(metrics: Metrics) -> None:
    series = metrics.task_processing["shop", "call"]

    def add() -> None:
        for number in range(1000):
            series.add(0.002)
            if not number % 100:
                series.sort()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    [sample] = [each for each in metrics.samples() if each.labels == ("shop", "call")]
    assert sum(sample.counts) == 4000
    assert sample.value == pytest.approx(8.0)


def test_a_task_waited_from_its_due_time_to_its_start_by_the_clock_of_the_database(
    metrics: Metrics,
) -> None:
    types = ("call", "timeout", "timeout")
    tasks = [make_claim(n, type=type_, due_at=DUE) for n, type_ in enumerate(types)]
    seven = DUE + timedelta(seconds=7)
    measure_claim(metrics, tasks, served=("shop",), told_at=seven, seconds=0.01)
    next_ = Completed("done", 7, make_claim(4, due_at=DUE), DUE + timedelta(seconds=2))
    measure_completions(metrics, [Completion(tasks[0], Outcome.FINISHED)], [next_], seconds=0.01)

    registry = registry_of(metrics.samples)
    calls = {"namespace": "shop", "type": tasks[0].type}
    assert registry.get_sample_value(f"{WAIT}_sum", calls) == 9
    assert registry.get_sample_value(f"{WAIT}_count", calls) == 2
    lateness = "pgprog_timer_lateness_seconds"
    assert registry.get_sample_value(f"{lateness}_sum", {"namespace": "shop"}) == 14
    assert registry.get_sample_value(f"{lateness}_count", {"namespace": "shop"}) == 2


def test_a_claim_that_brings_nothing_looked_at_every_namespace_in_vain(metrics: Metrics) -> None:
    measure_claim(metrics, [], served=("shop", "stock"), told_at=DUE, seconds=0.01)
    measure_claim(
        metrics, [make_claim(1, due_at=DUE)], served=("shop", "stock"), told_at=DUE, seconds=0.01
    )

    registry = registry_of(metrics.samples)
    counts = {
        (kind, name): registry.get_sample_value(
            f"pgprog_{kind}_scanning_duration_seconds_count", {"namespace": name}
        )
        for kind in ("calls", "timers")
        for name in ("shop", "stock")
    }
    assert counts == {
        ("calls", "shop"): 2,
        ("calls", "stock"): 1,
        ("timers", "shop"): 1,
        ("timers", "stock"): 1,
    }


@pytest.mark.parametrize(
    ("became", "tasks", "lost"),
    [("done", 1, 0), ("already", 1, 0), ("busy", 0, 0), ("lost", 0, 1)],
)
def test_an_end_counts_once_it_is_committed_and_a_claim_that_was_taken_away_is_lost(
    metrics: Metrics, became: str, tasks: int, lost: int
) -> None:
    claimed = make_claim(1)
    batch = [Completion(claimed, Outcome.FAILED)]
    measure_completions(metrics, batch, [Completed(became, 7, None)], seconds=0.01)

    assert metrics.tasks.get(("shop", claimed.type, "error"), 0) == tasks
    assert metrics.claims_lost.get(("shop",), 0) == lost


def test_counters_without_labels_begin_at_zero_so_that_the_first_event_is_an_increase(
    metrics: Metrics,
) -> None:
    assert b"pgprog_zombies_total 0.0" in text_of(metrics.samples())


def test_two_engines_in_one_program_have_a_registry_each() -> None:
    one, other = Metrics(), Metrics()
    one.zombies.add(by=2)

    assert registry_of(one.samples).get_sample_value("pgprog_zombies_total") == 2
    assert registry_of(other.samples).get_sample_value("pgprog_zombies_total") == 0


def test_the_figures_of_several_workers_are_sums_but_of_what_all_tell_the_worst() -> None:
    first = [
        Sample(WAIT, ("shop", "call"), 1.5, (1, 2)),
        Sample("pgprog_queue_tasks", ("shop", "waiting"), 7.0),
        Sample("pgprog_steps_busy", ("shop",), 3.0),
    ]
    second = [
        Sample(WAIT, ("shop", "call"), 2.0, (0, 4)),
        Sample("pgprog_queue_tasks", ("shop", "waiting"), 9.0),
        Sample("pgprog_steps_busy", ("shop",), 4.0),
        Sample("pgprog_steps_busy", ("stock",), 1.0),
    ]

    assert merged([first, second]) == [
        Sample(WAIT, ("shop", "call"), 3.5, (1, 6)),
        Sample("pgprog_queue_tasks", ("shop", "waiting"), 9.0),
        Sample("pgprog_steps_busy", ("shop",), 7.0),
        Sample("pgprog_steps_busy", ("stock",), 1.0),
    ]


def test_of_a_worker_that_has_ended_its_counts_stay_and_its_gauges_do_not(
    metrics: Metrics,
) -> None:
    metrics.tasks.add("shop", "call", "finished")
    metrics.sources.append(lambda: [Sample("pgprog_steps_busy", ("shop",), 3.0)])

    assert {each.name for each in lasting(metrics.samples())} >= {"pgprog_tasks_total"}
    assert not any(METRICS[each.name].kind == "gauge" for each in lasting(metrics.samples()))


def test_settings_differ_while_others_are_obeyed_than_those_of_the_file(metrics: Metrics) -> None:
    def shown() -> list[Sample]:
        return [each for each in metrics.samples() if each.name == "pgprog_settings_differ"]

    metrics.settings.say("shop", "read before the start")
    metrics.settings.begin("shop", "of the start")
    assert shown() == []

    metrics.settings.obey("shop", "read before the start")
    assert shown() == [Sample("pgprog_settings_differ", ("shop",), 0.0)]
    metrics.settings.obey("shop", "of an operator")
    assert shown() == [Sample("pgprog_settings_differ", ("shop",), 1.0)]
    metrics.settings.say("shop", "of an operator")
    assert shown() == [Sample("pgprog_settings_differ", ("shop",), 0.0)]


def test_a_part_is_critical_from_its_failure_to_its_next_success() -> None:
    part = Part()
    part.failed("the database is gone")
    assert part.seen("scanner").status == "critical"
    assert part.seen("scanner").reason == "the database is gone"

    part.succeeded()

    assert (part.seen("scanner").status, part.seen("scanner").reason) == ("passing", "")


def test_a_part_that_did_nothing_for_longer_than_it_may_is_critical(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts()
    parts.watch("loop", patience=5)
    parts.watch("scanner")
    began_at = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began_at + 60)

    loop, scanner = parts.components()

    assert (loop.status, loop.reason) == ("critical", "nothing was done for 60 s")
    assert scanner.status == "passing"
    assert scanner.age_seconds == pytest.approx(60, abs=1)
