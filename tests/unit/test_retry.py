from datetime import timedelta
from typing import Any

import pytest

from pgprog.retry import ONE_ATTEMPT, RetryPolicy

FOREVER = RetryPolicy(max_attempts=1_000_000, jitter=0.0)


def delay(policy: RetryPolicy, failures: int, **given: Any) -> timedelta | None:
    values: dict[str, Any] = {"error_type": "ValueError", "code": None, "random": 0.5, **given}
    return policy.next_delay(failures=failures, **values)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_the_delay_doubles_from_five_seconds_and_stays_at_three_minutes() -> None:
    delays = [delay(FOREVER, failures) for failures in range(1, 10)]

    assert delays == [seconds(n) for n in (5, 10, 20, 40, 80, 160, 180, 180, 180)]


def test_the_cap_is_not_an_end_however_often_the_step_failed() -> None:
    assert delay(FOREVER, 999_999) == seconds(180)


def test_no_interval_is_none_however_often_the_step_failed() -> None:
    policy = RetryPolicy(initial_interval=seconds(0), max_attempts=1_000_000)

    assert [delay(policy, failures) for failures in (1, 999_999)] == [seconds(0)] * 2


def test_an_interval_above_the_cap_is_cut_at_once() -> None:
    policy = RetryPolicy(initial_interval=seconds(500), jitter=0.0)

    assert delay(policy, 1) == seconds(180)


def test_a_coefficient_of_one_keeps_the_delay() -> None:
    policy = RetryPolicy(backoff_coefficient=1.0, max_attempts=9, jitter=0.0)

    assert [delay(policy, failures) for failures in (1, 5, 8)] == [seconds(5)] * 3


@pytest.mark.parametrize(("failures", "goes_on"), [(1, True), (2, True), (3, False), (4, False)])
def test_attempts_count_the_first(failures: int, goes_on: bool) -> None:
    assert (delay(RetryPolicy(max_attempts=3), failures) is not None) is goes_on


def test_one_attempt_is_never_followed_by_another() -> None:
    assert delay(ONE_ATTEMPT, 1) is None


@pytest.mark.parametrize("given", [{"error_type": "Gone"}, {"code": "Gone"}])
def test_an_error_or_a_code_that_is_not_retryable_ends_at_once(given: dict[str, Any]) -> None:
    policy = RetryPolicy(non_retryable=frozenset({"Gone"}))

    assert delay(policy, 1, **given) is None
    assert delay(policy, 1) is not None


@pytest.mark.parametrize(("random", "expected"), [(0.0, 9), (0.5, 10), (0.75, 10.5)])
def test_jitter_spreads_the_delay_evenly_around_its_middle(random: float, expected: float) -> None:
    policy = RetryPolicy(initial_interval=seconds(10), jitter=0.1)

    assert delay(policy, 1, random=random) == seconds(expected)


@pytest.mark.parametrize("failures", [1, 5, 50])
def test_no_jitter_goes_above_the_cap_or_gathers_there(failures: int) -> None:
    policy = RetryPolicy(initial_interval=seconds(180), max_attempts=100, jitter=0.5)

    delays = [delay(policy, failures, random=n / 10) for n in range(10)]

    assert delays[0] == seconds(90)
    assert len(set(delays)) == 10
    assert all(d is not None and d <= seconds(180) for d in delays)
