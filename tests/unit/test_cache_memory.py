"""What the cache says of its size, beside what Python says."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.cache.snapshots import Snapshot
from pgprog.client.cached_reads import Found
from pgprog.client.entry_reading import entry_from, process_from
from pgprog.client.shared import wire
from pgprog.codec import encode
from pgprog.daemon.reader.answering import Answerer
from pgprog.namespace import Namespace

if TYPE_CHECKING:
    from pgprog.cache.entries import Entry

AT = datetime(2026, 1, 1, tzinfo=UTC)
ENTRIES = 200


def raw(number: int, *, events: int, timers: int, pad: int = 900) -> bytes:
    at = AT + timedelta(seconds=number)
    plain: dict[str, Any] = {
        "namespace": "orders", "process_id": f"order-{number:010}", "incarnation": 10**6 + number,
        "status": "running", "previous_status": None, "status_changed_at": at, "detail": None,
        "corrupted_by": None, "state": {"pad": "x" * pad}, "state_version": 1, "metadata": None,
        "created_at": at, "last_event_id": 1000, "version": 10**7 + number,
        "timers": {f"timer {each}": at for each in range(timers)},
        "history": [
            {"event_id": 1000 - each, "at": at + timedelta(microseconds=each),
             "task_id": 10**6 + 10 * number + each, "payload": {"x": "y" * 180}, "metadata": None,
             "state_version": 1}
            for each in range(events)
        ],
    }  # fmt: skip
    return encode(plain, field="process", limit=1 << 20)


@pytest.mark.parametrize(("events", "timers"), [(0, 0), (5, 0), (50, 0), (0, 3)])
def test_an_entry_takes_no_more_than_it_says(events: int, timers: int) -> None:
    texts = [raw(number, events=events, timers=timers) for number in range(ENTRIES)]
    tracemalloc.start()
    entries: list[Entry] = []
    for number, text in enumerate(texts):
        snapshot = Snapshot(10**9 + number, 10**9 + number)
        entries.append(entry_from(text, snapshot=snapshot, as_of=1.0))
        process_from(entries[-1], None, (), 0.1)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    said = sum(entry.size for entry in entries)
    assert 0.95 < said / taken < 1.35


def test_threads_may_look_at_once_at_a_state_that_nobody_has_decoded() -> None:
    orders = Namespace[Any]("orders", state_version=2)
    upcast: list[object] = []
    seen: list[object] = []

    @orders.upcast(from_version=1)
    def grow(old: object) -> object:
        upcast.append(old)
        if len(upcast) == 2:  # the first is that of the read, which tells what does not fit
            with ThreadPoolExecutor() as other:
                seen.append(other.submit(lambda: process.state).result())
        return old

    entry = entry_from(raw(1, events=0, timers=0), snapshot=Snapshot(1, 1), as_of=1.0)
    process = process_from(entry, orders, (), 0.1)

    assert [process.state] == seen == [{"pad": "x" * 900}]


@pytest.mark.parametrize("pad", [900, 20_000])
def test_an_entry_takes_no_more_than_it_says_where_a_reader_answers_with_it(pad: int) -> None:
    cached: Any = SimpleNamespace(cache=SimpleNamespace(shelves={}), told=lambda _: ())
    client = Answerer(cached, database="").client()
    texts = [raw(number, events=0, timers=0, pad=pad) for number in range(ENTRIES)]
    question = wire.Question(0, "orders", "o-1", 0, None, None, None, 0, None, "forward")
    tracemalloc.start()
    entries: list[Entry] = []
    for number, text in enumerate(texts):
        snapshot = Snapshot(10**9 + number, 10**9 + number)
        entries.append(entry_from(text, snapshot=snapshot, as_of=1.0))
        client._packed_entry(question, Found(entries[-1], 0.1), entries[-1])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken < sum(entry.size for entry in entries)
