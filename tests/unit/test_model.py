import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pgprog.errors import InvalidArgument
from pgprog.model import (
    UNCHANGED,
    Event,
    Finish,
    Intent,
    Limits,
    Process,
    ProcessStatus,
    SetTimer,
    Step,
    TaskId,
    TaskType,
    Unchanged,
    UnsetTimer,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Access:
    def history(self, **asked: object) -> object:
        return asked

    def transaction(self) -> object:
        return "a transaction"


def step(**given: Any) -> Step[Any]:
    values: dict[str, Any] = {
        "namespace": "orders",
        "process_id": "o-1",
        "task_id": TaskId(1),
        "type": TaskType.CALL,
        "name": "pay",
        "args": None,
        "context": None,
        "attempt": 1,
        "state": None,
        "metadata": None,
        "status": ProcessStatus.RUNNING,
        "last_event_id": 0,
        "version": 1,
        "deadline": NOW,
        "_access": Access(),
    }
    return Step(**{**values, **given})


def test_an_intent_changes_nothing_that_it_leaves_out() -> None:
    intent: Intent[int] = Intent()

    assert intent.state is UNCHANGED
    assert intent.metadata is UNCHANGED
    assert (intent.events, intent.timers, intent.response, intent.then) == ((), (), None, None)


def test_an_intent_can_set_state_and_metadata_to_null() -> None:
    intent: Intent[None] = Intent(state=None, metadata=None)

    assert intent.state is None
    assert intent.metadata is None


def test_an_intent_can_be_made_and_annotated_with_one_or_two_types() -> None:
    one = Intent[int](state=1)
    two = Intent[int, Decimal](state=1, response=Decimal(2))

    assert (one.state, two.state, two.response) == (1, 1, Decimal(2))


def test_unchanged_is_one_value_that_shows_its_name() -> None:
    assert repr(UNCHANGED) == "UNCHANGED"
    assert Unchanged("unchanged") is UNCHANGED


@pytest.mark.parametrize("timer", [{"at": NOW}, {"after": timedelta(0)}, {"after": -timedelta(1)}])
def test_a_timer_is_set_at_a_time_or_after_a_while_also_in_the_past(timer: dict[str, Any]) -> None:
    assert SetTimer(**timer).name == ""


@pytest.mark.parametrize("timer", [{}, {"at": NOW, "after": timedelta(1)}])
def test_a_timer_needs_exactly_one_time(timer: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="timer 'expiry': give either at or after"):
        SetTimer(name="expiry", **timer)


def test_a_timer_refuses_a_time_without_a_zone() -> None:
    with pytest.raises(InvalidArgument, match="timer 'expiry': at has no time zone: 2030-01-01"):
        SetTimer(at=NOW.replace(tzinfo=None), name="expiry")


@pytest.mark.parametrize(
    "value", [Intent(), Event(1), SetTimer(at=NOW), UnsetTimer(), Finish(), Limits(), step()]
)
def test_values_are_frozen(value: Any) -> None:
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


def test_a_step_asks_its_access_for_history() -> None:
    assert step().history(5, limit=2, direction="backward") == {
        "after": 5,
        "limit": 2,
        "direction": "backward",
    }
    assert step().history() == {"after": None, "limit": 100, "direction": "forward"}


def test_a_step_asks_its_access_for_a_transaction() -> None:
    assert step().transaction() == "a transaction"


def test_the_engine_behind_a_step_is_not_part_of_its_value() -> None:
    assert step() == step(_access=Access())
    assert "_access" not in repr(step())


def test_what_sql_get_gives_is_read_as_a_process() -> None:
    raw = b"""{"namespace": "orders", "process_id": "o-1", "incarnation": 7, "status": "running",
        "previous_status": null, "status_changed_at": "2030-01-01T00:00:00.123456+00:00",
        "detail": null, "corrupted_by": null, "state": {"due": "1.10"}, "state_version": 1,
        "metadata": null, "created_at": "2030-01-01T03:00:00+03:00", "last_event_id": 1,
        "version": 9, "timers": {"": "2030-01-01T00:00:00+00:00"},
        "history": [{"event_id": 1, "at": "2030-01-01T00:00:00+00:00", "task_id": 7,
                     "payload": {"a": 1}, "metadata": null}]}"""

    process = msgspec.json.decode(raw, type=Process[dict[str, Decimal]])

    assert process.state == {"due": Decimal("1.10")}
    assert process.status is ProcessStatus.RUNNING
    assert process.status_changed_at.microsecond == 123456
    assert process.created_at == NOW
    assert process.timers == {"": NOW}
    assert process.history == (Event({"a": 1}, event_id=1, at=NOW, task_id=7),)


def test_the_limits_are_those_of_the_specification() -> None:
    assert dataclasses.asdict(Limits()) == {
        "id_bytes": 256,
        "key_bytes": 256,
        "args_bytes": 2**20,
        "response_bytes": 2**20,
        "context_bytes": 2**20,
        "state_bytes": 4 * 2**20,
        "event_bytes": 256 * 2**10,
        "events": 1000,
    }
