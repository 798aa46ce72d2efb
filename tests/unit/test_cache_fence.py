"""The races between fills and the stream, one by one, as notes on replication number them.

`stage` is a cache that is warm at 100; transactions have the ids from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.cache.advice import Advice
from pgprog.cache.entries import (
    Entry,
    EventAdded,
    EventRow,
    ProcessRemoved,
    ProcessRow,
    ProcessWritten,
    TimerSet,
    TimerUnset,
)
from pgprog.cache.fence import Cache
from pgprog.cache.gate import Gate
from pgprog.cache.shelves import Shelf
from pgprog.cache.snapshots import Snapshot
from pgprog.replication.messages import UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgprog.cache.entries import Change
    from pgprog.cache.fills import Fill

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ("orders", "o-1")


def row(version: int, *, events: int = 0, incarnation: int = 1, **values: Any) -> ProcessRow:
    plain: dict[str, Any] = {
        "namespace": "orders", "process_id": "o-1", "incarnation": incarnation,
        "status": "running", "previous_status": None, "status_changed_at": AT, "detail": None,
        "corrupted_by": None, "state": b"%d" % version, "state_version": 1, "metadata": None,
        "created_at": AT, "last_event_id": events, "version": version,
    }  # fmt: skip
    return ProcessRow(**(plain | values))


def event(number: int, size: int = 1) -> EventRow:
    return EventRow(number, AT, 7, b"1" * size, None, 1)


def written(version: int, *, events: int = 0, new: int = 0, **values: Any) -> list[Change]:
    """Return a step's changes: its *new* events up to *events*, then the process."""
    process = row(version, events=events, **values)
    added = range(events - new + 1, events + 1)
    return [*(EventAdded(1, event(number)) for number in added), ProcessWritten(process)]


def sees(below: int, *running: int) -> Snapshot:
    """Return a snapshot that sees what is *below*, but for what is *running*."""
    return Snapshot(min(running, default=below), below, frozenset(running))


@dataclass
class Stage:
    before: int = 100
    now: float = 0.0
    lsn: int = 0
    shelf: Shelf = field(default_factory=lambda: Shelf(ttl=60.0, max_bytes=1 << 20, max_lag=1.0))

    def __post_init__(self) -> None:
        self.cache = Cache({"orders": self.shelf}, window=3)
        self.cache.listen()
        self.cache.warm_up(sees(self.before))
        self.beat(sees(self.before))

    def tell(self, xid: int, changes: list[Change]) -> None:
        self.lsn += 10
        self.cache.on_transaction(xid, self.lsn, changes, now=self.now)

    def beat(self, snapshot: Snapshot) -> None:
        self.cache.on_beat(snapshot, self.lsn, sent_at=self.now, now=self.now)

    def begin(self) -> Fill:
        return self.cache.begin_fill(KEY, now=self.now)

    def end(self, fill: Fill, snapshot: Snapshot, process: ProcessRow, *new: EventRow) -> bool:
        entry = Entry(process, new, snapshot=snapshot)
        return self.cache.end_fill(fill, entry, now=self.now) is not None

    def fill(self, snapshot: Snapshot, process: ProcessRow, *new: EventRow) -> bool:
        return self.end(self.begin(), snapshot, process, *new)

    def look(self, **wanted: Any) -> Entry | None:
        return self.cache.look(*KEY, self.now, **wanted)

    @property
    def version(self) -> int | None:
        entry = self.look()
        return None if entry is None else entry.version


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_1_a_transaction_told_during_a_fill_is_in_what_is_kept(stage: Stage) -> None:
    fill = stage.begin()
    stage.tell(101, written(2))

    assert stage.end(fill, sees(101), row(1))
    assert stage.version == 2


def test_2_a_fill_that_misses_a_transaction_told_before_is_not_kept(stage: Stage) -> None:
    stage.tell(101, written(2))

    assert not stage.fill(sees(102, 101), row(1))
    assert stage.version is None


def test_3_a_transaction_that_a_fill_contains_is_not_applied_when_it_is_told(stage: Stage) -> None:
    assert stage.fill(sees(102), row(2, events=1), event(1))
    stage.tell(101, written(2, events=1, new=1))

    entry = stage.look()
    assert entry is not None
    assert [each.event_id for each in entry.events] == [1]
    assert stage.cache.counts["gaps"] == 0


def test_4_of_two_transactions_during_a_fill_the_invisible_one_is_applied(stage: Stage) -> None:
    fill = stage.begin()
    stage.tell(101, written(2, events=1, new=1))
    stage.tell(102, written(3, events=2, new=1))

    assert stage.end(fill, sees(103, 102), row(2, events=1), event(1))
    entry = stage.look()
    assert entry is not None
    assert [each.event_id for each in entry.events] == [1, 2]


def test_5_a_removal_during_a_fill_is_not_undone_by_it(stage: Stage) -> None:
    fill = stage.begin()
    stage.tell(101, [ProcessRemoved(*KEY)])

    assert not stage.end(fill, sees(101), row(1))
    assert not stage.fill(sees(101), row(1))


def test_5_a_removal_and_another_init_during_a_fill_are_not_undone_by_it(stage: Stage) -> None:
    fill = stage.begin()
    stage.tell(101, [ProcessRemoved(*KEY)])
    stage.tell(102, [ProcessWritten(row(2, incarnation=9))])

    assert not stage.end(fill, sees(101), row(1))
    assert stage.fill(sees(103), row(2, incarnation=9))


def test_5_a_new_incarnation_outlives_the_removal_of_the_one_before(stage: Stage) -> None:
    assert stage.fill(sees(103), row(2, incarnation=9))
    stage.tell(101, [ProcessRemoved(*KEY)])
    stage.tell(102, [ProcessWritten(row(2, incarnation=9))])

    assert stage.version == 2


def test_6_what_was_given_up_is_not_filled_again_without_what_was_in_it(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    stage.tell(102, written(4, events=9))  # does not follow: it goes

    assert not stage.fill(sees(102), row(1))
    assert stage.fill(sees(103), row(4, events=9))


def test_6_what_is_filled_anew_is_not_kept_without_what_was_in_it(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, written(2))

    assert not stage.fill(sees(102, 101), row(1))


def test_7_a_refused_fill_remembers_what_was_told_while_it_was_under_way(stage: Stage) -> None:
    stage.tell(101, written(2))
    fill = stage.begin()
    stage.tell(102, written(3))
    assert not stage.end(fill, sees(103, 101, 102), row(1))
    stage.beat(sees(103, 102))

    assert not stage.fill(sees(103, 102), row(2))


def test_7_a_fill_that_found_nothing_remembers_it_too(stage: Stage) -> None:
    fill = stage.begin()
    stage.tell(101, written(1))
    stage.cache.drop_fill(fill)

    assert not stage.fill(sees(102, 101), row(1))


def test_8_a_fill_from_before_the_stream_was_lost_is_not_kept(stage: Stage) -> None:
    fill = stage.begin()
    stage.cache.go_cold()
    stage.cache.listen()
    stage.cache.warm_up(sees(100))

    assert not stage.end(fill, sees(100), row(1))


def test_9_a_fill_waits_for_transactions_from_before_the_stream(stage: Stage) -> None:
    stage.cache.listen()
    stage.cache.warm_up(sees(120, 110))

    assert not stage.fill(sees(125, 110), row(1))
    assert stage.fill(sees(125), row(1))


def test_9_a_fill_waits_for_what_was_told_while_the_cache_warmed_up(stage: Stage) -> None:
    stage.cache.listen()
    stage.tell(121, written(2))  # begun behind the transaction id that was taken, 120
    stage.cache.warm_up(sees(121))

    assert not stage.fill(sees(121), row(1))
    assert not stage.fill(sees(123, 121), row(1))
    assert stage.fill(sees(122), row(2))


def test_9_what_is_given_up_while_it_warms_up_stays_cold(stage: Stage) -> None:
    stage.cache.listen()
    stage.cache.go_cold()
    stage.cache.warm_up(sees(120))

    assert not stage.cache.is_warm


def test_10_an_own_write_is_waited_for(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.cache.note_version(KEY, 2, now=stage.now)

    assert stage.look() is None
    assert stage.cache.advise(KEY, now=stage.now, max_lag=None) is Advice.WAIT
    told: list[str] = []
    stage.cache.watchers.add(KEY, lambda: told.append("now"))
    stage.tell(101, written(2))
    assert told == ["now"]
    assert stage.version == 2


def test_10_an_own_write_that_was_told_before_its_answer_is_there_at_once(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    stage.cache.note_version(KEY, 2, now=stage.now)

    assert stage.version == 2


def test_10_a_version_of_another_client_is_waited_for(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))

    assert stage.look(at_least=2) is None
    stage.tell(101, written(2))
    assert stage.look(at_least=2) is not None


def test_10_after_an_own_removal_nothing_is_served_that_may_be_older(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.now = 0.2
    stage.cache.note_time(KEY, now=stage.now)

    assert stage.look() is None
    stage.now = 0.3
    stage.beat(sees(101))
    assert stage.version == 1


def test_10_after_a_change_of_an_unknown_process_nothing_is_served(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.now = 0.2
    stage.cache.note_time_of_all(now=stage.now)

    assert stage.look() is None
    assert stage.cache.advise(KEY, now=stage.now, max_lag=None) is Advice.READ
    stage.now = 0.3
    stage.beat(sees(101))
    assert stage.version == 1


class _Interrupted(dict[str, Any]):
    """Entries where something happens in another thread just after one was looked up."""

    def __init__(self, entries: Any, meanwhile: Callable[[], None]) -> None:
        super().__init__(entries)
        self._meanwhile = meanwhile

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key, default)
        self._meanwhile()
        return found


def _interrupted_look(stage: Stage, meanwhile: Callable[[], None]) -> Entry | None:
    """Look as a thread does that loses its turn to the loop when it has its entry."""
    entries = stage.shelf.entries

    def interrupt() -> None:
        stage.shelf.entries = entries
        meanwhile()

    stage.shelf.entries = _Interrupted(entries, interrupt)  # type: ignore[assignment]
    return stage.look()


def test_10_an_own_write_is_read_by_a_thread_that_the_stream_overtakes(stage: Stage) -> None:
    stage.fill(sees(100), row(1))
    stage.now = 0.1
    stage.cache.note_version(KEY, 2, now=stage.now)
    stage.now = 0.2

    def tell() -> None:
        stage.tell(100, written(2))
        stage.beat(sees(101))

    assert _interrupted_look(stage, tell) is None
    assert stage.version == 2


def test_11_a_thread_that_the_stream_overtakes_is_served_nothing_older_than_it_may_be(
    stage: Stage,
) -> None:
    stage.fill(sees(100), row(1))
    stage.now = 1.5  # the stream has stood still for longer than max_lag

    def tell() -> None:
        stage.tell(100, written(2))
        stage.beat(sees(101))

    assert _interrupted_look(stage, tell) is None
    assert stage.version == 2


def test_11_nothing_is_served_when_the_lease_has_ended(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.lsn += 10  # the stream does not come as far
    for stage.now in (0.5, 1.0):
        stage.beat(sees(101))
        assert stage.version == 1

    stage.now = 1.1
    assert stage.version is None
    assert stage.look(max_lag=5.0) is not None
    assert stage.cache.advise(KEY, now=stage.now, max_lag=None) is Advice.READ
    stage.cache.on_progress(stage.lsn)
    assert stage.version == 1


def test_12_nothing_is_served_when_the_stream_is_lost(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    woken: list[str] = []
    stage.cache.watchers.add(KEY, lambda: woken.append("now"))

    stage.cache.go_cold()

    assert woken == ["now"]
    assert stage.version is None
    assert stage.cache.advise(KEY, now=stage.now, max_lag=None) is Advice.READ


def test_15_a_value_that_was_left_out_is_taken_from_before(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1, metadata=b'{"a":1}'))
    stage.tell(101, written(2, state=UNCHANGED, metadata=UNCHANGED, detail=UNCHANGED))

    entry = stage.look()
    assert entry is not None
    assert (entry.row.version, entry.row.state, entry.row.metadata) == (2, b"1", b'{"a":1}')


def test_15_a_state_that_is_too_big_is_not_kept_and_not_forgotten(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, written(2, state=b"1" * (1 << 20)))

    assert stage.version is None
    assert not stage.fill(sees(101), row(1))


def test_16_a_process_that_leaves_what_is_published_is_given_up(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, [ProcessRemoved(*KEY)])

    assert stage.version is None


@pytest.mark.parametrize(
    ("xid", "is_seen"),
    [
        ((1 << 32) - 1, True),
        (0, True),
        (3, False),
        (4, True),
        (5, False),
        ((1 << 31) + 10, True),  # nearly half a circle behind
        ((1 << 31) - 10, False),
    ],
)
def test_17_transaction_ids_go_round(xid: int, is_seen: bool) -> None:
    epoch = 7 << 32
    snapshot = Snapshot.parse(f"{epoch + 3}:{epoch + 5}:{epoch + 3}")

    assert snapshot.sees(xid) is is_seen


def test_17_what_all_have_seen_is_not_unseen_again_half_a_circle_later(stage: Stage) -> None:
    stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    for quarter in range(3):
        stage.beat(sees(102 + quarter * (1 << 30)))  # it is read, and never changes

    assert stage.version == 2
    assert stage.cache.told(KEY) == ()
    assert stage.cache.is_settled(KEY, now=stage.now)


HALF = 1 << 31


@pytest.mark.parametrize("xid", [101, HALF - 2, (1 << 32) + 5, (7 << 32) - 1])
def test_17_what_was_served_is_visible_however_long_ago_it_was(xid: int) -> None:
    stage = Stage(before=xid - 1)
    stage.fill(sees(xid), row(1))
    stage.tell(xid % (1 << 32), written(2))
    stage.cache.go_cold()
    told = stage.cache.told(KEY)

    assert [sees(xid).shows(each) for each in told] == [False]
    running = Snapshot(xid, xid + 1, frozenset({xid % (1 << 32)}))
    assert [running.shows(each) for each in told] == [False]
    for later in (1, HALF - 1, HALF, HALF + 1, 3 * HALF):
        assert all(map(sees(xid + later).shows, told))


def test_17_what_was_served_long_ago_is_forgotten_when_the_stream_is_there_again(
    stage: Stage,
) -> None:
    stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    stage.cache.listen()
    stage.cache.warm_up(sees(102 + HALF))
    stage.beat(sees(102 + HALF))

    assert stage.cache.told(KEY) == ()


def test_17_what_is_kept_is_given_up_where_no_beat_came_for_a_quarter_of_a_circle(
    stage: Stage,
) -> None:
    stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    stage.beat(sees(102 + HALF))

    assert not stage.cache.is_warm
    assert all(map(sees(102 + HALF).shows, stage.cache.told(KEY)))


def test_22_what_was_served_does_not_change(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    entry = stage.look()
    assert entry is not None
    before = (entry.row, entry.events, entry.timers)
    stage.tell(101, [*written(2, events=1, new=1), TimerSet(1, "", *KEY, AT)])

    assert (entry.row, entry.events, entry.timers) == before
    assert stage.version == 2


def test_23_of_events_that_are_too_large_together_the_newest_are_kept(stage: Stage) -> None:
    sizes = {"size": 50_000}
    assert stage.fill(sees(100), row(1, events=3), *(event(n, **sizes) for n in (1, 2, 3)))
    filled = stage.look()
    stage.tell(100, [EventAdded(1, event(4, **sizes)), ProcessWritten(row(2, events=4))])
    told = stage.look()

    assert filled is not None
    assert told is not None
    assert [each.event_id for each in filled.events] == [2, 3]
    assert [each.event_id for each in told.events] == [3, 4]
    assert stage.shelf.bytes == told.size < 1 << 17


def test_23_the_events_that_are_kept_are_the_newest(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1, events=2), event(1), event(2))
    stage.tell(101, written(2, events=5, new=3))

    entry = stage.look()
    assert entry is not None
    assert [each.event_id for each in entry.events] == [3, 4, 5]


@pytest.mark.parametrize(
    ("max_events", "after", "forward", "found"),
    [
        (0, None, True, []),
        (5, None, True, None),
        (5, 2, True, [3, 4, 5]),
        (1, 2, True, [3]),
        (5, 1, True, None),
        (5, 5, True, []),
        (5, 9, True, []),
        (2, None, False, [5, 4]),
        (4, None, False, None),
        (2, 5, False, [4, 3]),
        (3, 5, False, None),
        (3, 1, False, []),
        (9, 0, False, []),
    ],
)
def test_23_a_range_is_given_whole_or_not_at_all(
    max_events: int, after: int | None, forward: bool, found: list[int] | None
) -> None:
    entry = Entry(row(1, events=5), [event(3), event(4), event(5)])

    has = entry.has_range(max_events=max_events, after=after, forward=forward)

    assert has is (found is not None)
    if found is not None and max_events:
        given = entry.range(max_events=max_events, after=after, forward=forward)
        assert [each.event_id for each in given] == found


def test_23_what_was_not_touched_for_longest_goes_when_there_is_too_much(stage: Stage) -> None:
    stage.shelf.max_bytes = 8_000
    for number in range(5):
        fill = stage.cache.begin_fill(("orders", f"p-{number}"), now=stage.now)
        entry = Entry(row(1, process_id=f"p-{number}", incarnation=number), snapshot=sees(101))
        assert stage.cache.end_fill(fill, entry, now=stage.now)
        stage.now += 2
        stage.beat(sees(101))
        stage.cache.look("orders", "p-0", stage.now)

    assert [*stage.shelf.entries][-1] == "p-0"
    assert 2 <= len(stage.shelf.entries) < 5
    assert stage.shelf.bytes == sum(each.size for each in stage.shelf.entries.values())
    assert stage.shelf.bytes <= stage.shelf.max_bytes


def test_what_nobody_reads_or_changes_goes_after_its_time_to_live(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.now = 59.0
    stage.beat(sees(101))
    assert stage.version == 1
    stage.now = 110.0
    stage.beat(sees(101))
    assert stage.version == 1

    stage.now = 171.0
    stage.beat(sees(101))

    assert stage.look() is None
    assert not stage.shelf.entries


def test_a_timer_that_starts_is_gone_though_its_process_is_not_told(stage: Stage) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, [TimerSet(1, "expiry", *KEY, AT + timedelta(days=1))])
    entry = stage.look()
    assert entry is not None
    assert dict(entry.timers) == {"expiry": AT + timedelta(days=1)}

    stage.tell(102, [TimerUnset(1, "expiry")])

    entry = stage.look()
    assert entry is not None
    assert not entry.timers


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "during"])
def test_a_fill_that_misses_the_start_of_a_timer_is_not_kept(stage: Stage, is_before: bool) -> None:
    fill = None if is_before else stage.begin()
    stage.tell(101, [TimerUnset(1, "expiry")])

    assert not stage.end(fill or stage.begin(), sees(102, 101), row(1))


def test_a_fill_must_see_every_transaction_told_before_not_the_last_alone(stage: Stage) -> None:
    stage.tell(101, [TimerSet(1, "expiry", *KEY, AT)])  # a return, which takes no lock
    stage.tell(102, written(2))

    assert not stage.fill(sees(103, 101), row(2))


def test_the_snapshot_of_a_fill_is_forgotten_when_the_stream_has_told_what_it_saw(
    stage: Stage,
) -> None:
    assert stage.fill(sees(101), row(1))
    stage.tell(101, written(2))
    stage.now = 0.1
    stage.beat(sees(102))

    entry = stage.look()
    assert entry is not None
    assert entry.snapshot is None


def test_a_stream_that_outruns_the_beats_ends_the_cache(stage: Stage) -> None:
    for number in range(100_001):
        stage.tell(101 + number, [TimerUnset(number, "")])

    assert not stage.cache.is_warm
    assert stage.cache.counts["overrun"] == 1


@pytest.mark.parametrize("is_kept", [True, False])
def test_many_transactions_on_one_process_that_outrun_the_beats_end_the_cache(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    monkeypatch.setattr("pgprog.cache.fence._MOST_RECENT", 100)
    if is_kept:
        assert stage.fill(sees(101), row(1))
    for number in range(100):
        stage.tell(101 + number, written(2 + number))
    was_warm = stage.cache.is_warm
    stage.tell(201, written(102))

    assert (was_warm, stage.cache.is_warm) == (True, False)
    assert stage.cache.counts["overrun"] == 1


def test_what_may_be_unseen_is_not_counted_again_with_each_transaction(stage: Stage) -> None:
    looks = 0

    class Counted(Snapshot):
        def sees(self, xid: int) -> bool:
            nonlocal looks
            looks += 1
            return super().sees(xid)

    assert stage.fill(sees(101), row(1))
    stage.beat(Counted(101, 101))
    for number in range(100):
        stage.tell(101 + number, written(2 + number))
    entry = stage.look()

    assert entry is not None
    assert [*entry.unseen] == [*range(101, 201)]
    assert looks <= 100
    stage.beat(sees(200))
    assert [*entry.unseen] == [200]


def test_what_a_standby_has_not_acknowledged_waits_at_the_gate(stage: Stage) -> None:
    gate = Gate(stage.cache)
    gate.is_shut = True
    assert stage.fill(sees(101), row(1))

    gate.on_transaction(101, 10, written(2), now=0.0)
    gate.on_progress(20, now=0.0)
    stage.cache.on_beat(sees(101), 20, sent_at=0.5, now=0.5)
    gate.on_snapshot(sees(102, 101), now=0.5)
    assert gate.is_waiting
    assert (stage.version, stage.cache.lease.as_of) == (1, 0.0)

    gate.on_snapshot(sees(102), now=0.6)
    assert [gate.is_waiting] == [False]
    assert (stage.version, stage.cache.lease.as_of) == (2, 0.5)


def test_readers_are_told_what_snapshots_may_not_see_of_what_is_kept_and_what_was(
    stage: Stage,
) -> None:
    assert stage.fill(sees(101), row(1))
    untold = stage.cache.told(KEY)
    stage.tell(101, written(2))
    kept = stage.cache.told(KEY)
    fill = stage.begin()  # what was kept is given up
    given_up = stage.cache.told(KEY)
    assert stage.end(fill, sees(102), row(2))
    refilled = stage.cache.told(KEY)
    stage.tell(102, written(3))
    both = stage.cache.told(KEY)
    stage.beat(sees(103))

    assert (untold, kept, given_up, refilled) == ((), (101,), (101,), (101,))
    assert both == (101, 102)
    assert stage.cache.told(KEY) == ()


def test_who_has_looked_may_wait_only_once_all_that_was_told_is_visible(stage: Stage) -> None:
    def is_settled() -> bool:
        return stage.cache.is_settled(KEY, now=stage.now)

    assert is_settled()
    stage.tell(101, written(1))
    told = is_settled()
    stage.beat(sees(102))
    assert (told, is_settled()) == (False, True)

    assert stage.fill(sees(102), row(1))
    stage.tell(102, written(2))
    in_entry = is_settled()
    stage.beat(sees(103))
    assert (in_entry, is_settled()) == (False, True)

    fill = stage.begin()
    stage.tell(103, written(3))
    in_fill = is_settled()
    stage.beat(sees(104))
    assert (in_fill, is_settled()) == (False, True)
    stage.cache.drop_fill(fill)


def test_who_has_looked_may_not_wait_while_anything_may_be_left_untold(stage: Stage) -> None:
    def is_settled(namespace: str = "orders") -> bool:
        return stage.cache.is_settled((namespace, "o-1"), now=stage.now)

    assert not is_settled("parcels")
    stage.now = 1.1  # the stream is older than it may be
    stale = is_settled()
    stage.beat(sees(100))
    assert (stale, is_settled()) == (False, True)
    stage.cache.listen()
    listening = is_settled()
    stage.cache.warm_up(sees(110, 105))
    stage.beat(sees(110, 105))
    before = is_settled()  # 105 may have been committed before the stream began
    stage.beat(sees(110))
    assert (listening, before, is_settled()) == (False, False, True)
