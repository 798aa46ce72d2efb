"""What is counted, how several workers' figures become one, and how the parts of a worker are."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from pgprog.metrics import Metrics, Sample, merged
from pgprog.metrics.exposition import registry_of, text_of
from pgprog.metrics.names import BOUNDS, METRICS
from pgprog.metrics.samples import lasting
from pgprog.metrics.vitals import Vital, Vitals

WAIT = "pgprog_task_wait_seconds"
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


def seconds_ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("kind", "names"), [("histogram", HISTOGRAMS), ("counter", COUNTERS), ("gauge", GAUGES)]
)
def test_every_metric_of_the_specification_is_there_by_its_name(kind: str, names: set[str]) -> None:
    assert {name for name in names if METRICS[name].kind != kind} == set()


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


def test_a_step_waited_from_its_due_time_by_the_clock_of_the_database(metrics: Metrics) -> None:
    hours_ahead = timedelta(hours=5)
    series = metrics.steps("shop", "timeout")
    series.begin(seconds_ago(7))
    assert sum(metrics.task_wait["shop", "timeout"].counts) == 0  # nobody knows yet what time it is

    metrics.clock.hear(datetime.now(UTC) + hours_ahead)
    began_at = series.begin(seconds_ago(7) + hours_ahead)
    series.end(began_at - 2)

    assert metrics.task_wait["shop", "timeout"].sum == pytest.approx(7, abs=0.5)
    assert metrics.timer_lateness["shop",].sum == pytest.approx(7, abs=0.5)
    assert metrics.task_processing["shop", "timeout"].sum == pytest.approx(2, abs=0.5)


def test_a_step_that_begins_before_its_time_by_a_slow_answer_has_waited_for_nothing(
    metrics: Metrics,
) -> None:
    metrics.clock.hear(seconds_ago(1))
    metrics.steps("shop", "call").begin(datetime.now(UTC))

    assert metrics.task_wait["shop", "call"].sum == 0


def test_an_answer_that_was_long_on_its_way_does_not_put_the_clock_back(metrics: Metrics) -> None:
    metrics.clock.hear(datetime.now(UTC))
    metrics.clock.hear(seconds_ago(30))

    assert metrics.clock.age(seconds_ago(5), now=time.monotonic()) == pytest.approx(5, abs=0.5)


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


def test_a_part_is_critical_from_its_failure_to_its_next_success() -> None:
    vital = Vital()
    vital.failed("the database is gone")
    assert vital.seen("scanner").status == "critical"
    assert vital.seen("scanner").reason == "the database is gone"

    vital.succeeded()

    assert (vital.seen("scanner").status, vital.seen("scanner").reason) == ("passing", "")


def test_a_part_that_did_nothing_for_longer_than_it_may_is_critical(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vitals = Vitals()
    vitals.part("loop", patience=5)
    vitals.part("scanner")
    began_at = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began_at + 60)

    loop, scanner = vitals.components()

    assert (loop.status, loop.reason) == ("critical", "nothing was done for 60 s")
    assert scanner.status == "passing"
    assert scanner.age_seconds == pytest.approx(60, abs=1)
