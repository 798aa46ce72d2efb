"""The oracle sees what is wrong, each kind by one planted read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.stress.oracle import Oracle, Read, Written, gone, rank
from tests.stress.readers import Torn, shown

from pgprog.model import Event, Process, ProcessStatus, TaskId

KEY = ("stress", "p-1")
GOOD = Read("one", KEY, 5.0, 5.1, "cache", 0.5, 1.0, rank(1, 2), ("b",), 3, rank(1, 1), 2, 7, 7)


@pytest.fixture
def oracle() -> Oracle:
    """Two steps of a first life by 4.0, and a third that nobody has heard of."""
    told = Oracle()
    for number, mark in ((1, "a"), (2, "b")):
        told.began(KEY, Written(mark, rank(1, number), number + 1.0))
        told.committed(KEY, mark, at=number + 2.0, version=number)
    told.freed(KEY, 1, 3, at=4.0)
    told.began(KEY, Written("c", rank(1, 3), 4.9))
    return told


def faults(oracle: Oracle, read: Read) -> list[str]:
    oracle.add(read)
    oracle.conclude()
    return [each.partition(":")[0] for each in oracle.violations]


def test_a_right_read_is_right(oracle: Oracle) -> None:
    assert faults(oracle, GOOD) == []


def test_what_is_not_known_to_be_committed_may_be_shown(oracle: Oracle) -> None:
    assert faults(oracle, GOOD._replace(rank=rank(1, 3), marks=("c",))) == []


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        ("stale", {"rank": rank(1, 1), "marks": ("a",)}),
        ("stale", {"free": 2, "free_floor": 0}),
        ("stale", {"version": 6}),
        ("stale", {"lag": 1.2}),
        ("stale", {"rank": None}),
        ("back", {"floor": rank(1, 3)}),
        ("back", {"free_floor": 4}),
        ("never", {"marks": ("b", "x")}),
        ("never", {"rank": rank(1, 3), "marks": ("c",), "began_at": 4.7, "ended_at": 4.8}),
    ],
)
def test_what_is_wrong_is_seen(oracle: Oracle, kind: str, changed: dict[str, Any]) -> None:
    assert kind in faults(oracle, GOOD._replace(**changed))


def test_what_was_rolled_back_is_never_shown(oracle: Oracle) -> None:
    oracle.failed("c")

    assert faults(oracle, GOOD._replace(rank=rank(1, 3), marks=("c",))) == ["never"]


def test_absence_is_right_once_a_removal_has_begun(oracle: Oracle) -> None:
    oracle.began(KEY, Written("d", gone(1), 5.05))

    assert faults(oracle, GOOD._replace(rank=None)) == []


def test_a_read_is_judged_once_all_writers_have_spoken(oracle: Oracle) -> None:
    oracle.said("writer", 5.05)
    oracle.add(GOOD._replace(rank=rank(1, 1)))
    oracle.judge()
    assert not oracle.violations

    oracle.said("writer", 5.2)
    oracle.judge()
    assert oracle.violations


@pytest.mark.parametrize(
    "changed",
    [
        {"last_event_id": 3},
        {"state": {"life": 1, "n": 1, "mark": "b"}},
        {"state": {"life": 2, "n": 2, "mark": "b"}},
        {"timers": {"step": datetime(2100, 1, 1, tzinfo=UTC)}},
        {"history": ()},
    ],
)
def test_an_answer_of_two_moments_is_torn(changed: dict[str, Any]) -> None:
    whole: dict[str, Any] = {
        "namespace": "stress", "process_id": "p-1", "incarnation": 1,
        "status": ProcessStatus.RUNNING, "previous_status": None, "detail": None,
        "status_changed_at": datetime(2026, 1, 1, tzinfo=UTC), "corrupted_by": None,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC), "state_version": 1, "version": 7,
        "state": {"life": 1, "n": 2, "mark": "b"}, "last_event_id": 2,
        "metadata": {"life": 1, "n": 2, "state_n": 2, "mark": "b"},
        "timers": {"step": datetime(2100, 1, 1, tzinfo=UTC) + timedelta(seconds=2)},
        "history": (
            Event(event_id=2, at=datetime(2026, 1, 1, tzinfo=UTC), task_id=TaskId(1),
                  payload={"n": 2, "mark": "b"}, metadata=None),
        ),
    }  # fmt: skip
    assert shown(Process(**whole), direction="backward", max_events=1).rank == rank(1, 2)

    with pytest.raises(Torn):
        shown(Process(**(whole | changed)), direction="backward", max_events=1)
