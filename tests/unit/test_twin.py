"""How the twin is driven; tests/property says whether it does what the database does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pgprog.config import NamespaceSettings
from pgprog.errors import IdempotencyConflict, InvalidArgument, ProcessInError
from pgprog.store.rows import Claimed, Completion, NewEvent, Outcome, RawRequest, TimerChange
from pgprog.testing.twin import Twin

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def twin() -> Twin:
    made = Twin(NEW_YEAR)
    made.create_namespace("orders", NamespaceSettings())
    return made


@pytest.fixture
def worker(twin: Twin) -> int:
    return twin.register_worker("w", ["orders"])


def only(twin: Twin, worker: int) -> Claimed:
    [claimed] = twin.claim(worker, max_tasks=10).tasks
    return claimed


def test_a_timer_fires_when_the_time_has_been_moved_to_it(twin: Twin, worker: int) -> None:
    twin.init("orders", "o-1")
    timer = TimerChange("expiry", None, timedelta(days=3), remove=False)
    done = Completion(only(twin, worker), Outcome.FINISHED, timers=[timer])
    twin.complete(worker, [done])
    assert twin.claim(worker, max_tasks=10).wait_seconds == timedelta(days=1).total_seconds()
    assert twin.next_due() == NEW_YEAR + timedelta(days=3)

    twin.advance(timedelta(days=3))

    assert only(twin, worker).name == "expiry"


def test_a_completion_gives_the_next_task_with_the_process_as_it_left_it(
    twin: Twin, worker: int
) -> None:
    twin.init("orders", "o-1")
    call = twin.call("orders", "o-1", b"1")
    init = Completion(
        only(twin, worker), Outcome.FINISHED, state=b"{}", events=[NewEvent(b"1", None)]
    )

    [completed] = twin.complete(worker, [init])

    assert completed.next_ is not None
    assert (completed.next_.task_id, completed.next_.state) == (call, b"{}")
    assert completed.next_.last_event_id == 1


def test_a_repeated_key_gives_the_same_task_whatever_the_spelling_of_args(twin: Twin) -> None:
    first = twin.init("orders", "o-1", b'{"a":1,"b":true}', idempotency_key="k")

    again = twin.init("orders", "o-1", b'{"b":true,"a":1.0}', idempotency_key="k")

    assert again == first
    with pytest.raises(IdempotencyConflict):
        twin.init("orders", "o-1", b'{"b":1,"a":1}', idempotency_key="k")


def test_what_is_refused_is_refused_with_the_error_of_its_sqlstate(twin: Twin, worker: int) -> None:
    twin.init("orders", "o-1")
    broken = Completion(only(twin, worker), Outcome.BROKEN, error=b'{"detail":"no"}')
    twin.complete(worker, [broken])

    with pytest.raises(ProcessInError):
        twin.call("orders", "o-1")
    [refused] = twin.submit_many([RawRequest("call", "orders", "o-1")])
    assert refused.outcome == ProcessInError.sqlstate


def test_only_the_task_whose_turn_it_is_can_be_taken(twin: Twin, worker: int) -> None:
    init = twin.init("orders", "o-1")
    call = twin.call("orders", "o-1")

    with pytest.raises(InvalidArgument):
        twin.take(worker, call)
    taken = twin.take(worker, init)
    assert taken is not None
    assert taken.task_id == init
