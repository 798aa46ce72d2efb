"""The events that come with a step answer as the database would, or say that they cannot."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pgprog.store.rows import NewEvent
from pgprog.store.window import Window

if TYPE_CHECKING:
    from pgprog.model import Direction

AT = datetime(2025, 1, 1, tzinfo=UTC)


def window(first: int, last: int, *, most: int = 100) -> Window:
    events = [
        {"event_id": n, "at": AT, "task_id": 7, "payload": n, "metadata": None, "state_version": 1}
        for n in range(first, last + 1)
    ]
    return Window.of(msgspec.json.encode(events), most=most, last_event_id=last)


def numbers(found: Any) -> list[int]:
    return [event.event_id for event in found]


def by_the_database(last: int, after: int | None, limit: int, direction: str) -> list[int]:
    if direction == "forward":
        return [n for n in range(1, last + 1) if n > (after or 0)][:limit]
    return [n for n in range(last, 0, -1) if after is None or n < after][:limit]


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(("first", "last"), [(1, 0), (1, 4), (3, 6), (7, 6)])
def test_a_window_answers_as_the_database_or_not_at_all(
    first: int, last: int, direction: Direction
) -> None:
    answered = 0
    for after, limit in product([None, *range(-2, 10)], range(9)):
        wanted = by_the_database(last, after, limit, direction)
        found = window(first, last).read(after=after, limit=limit, direction=direction)
        if found is None:
            assert min(wanted) < first
        else:
            answered += 1
            assert numbers(found) == wanted

    assert answered


def test_the_events_of_a_step_are_the_newest_of_the_next_in_its_chain() -> None:
    grown = window(1, 2).grown(
        [NewEvent(b"3", None), NewEvent(b"4", b"{}")], at=AT, task_id=8, state_version=2
    )
    found = grown.read(after=None, limit=9, direction="forward")

    assert found is not None
    assert numbers(found) == [1, 2, 3, 4]
    assert found[3] == (4, AT, 8, b"4", b"{}", 2)


def test_a_window_does_not_grow_beyond_its_number() -> None:
    grown = window(1, 2, most=3).grown(
        [NewEvent(b"3", None)] * 2, at=AT, task_id=8, state_version=1
    )

    assert numbers(grown.events) == [2, 3, 4]
    assert grown.read(after=None, limit=1, direction="forward") is None


def test_a_window_does_not_grow_beyond_4_mib() -> None:
    big = NewEvent(b"1" * (1 << 20), None)
    grown = window(1, 2)
    for _ in range(6):
        grown = grown.grown([big], at=AT, task_id=8, state_version=1)

    assert numbers(grown.events) == [5, 6, 7, 8]
    assert grown.last_event_id == 8
