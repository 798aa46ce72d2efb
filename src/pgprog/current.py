"""What runs here and now: the step of a process, and what travels with all that it asks for.

Three texts travel in the context of a task, under their names: `traceparent` and `tracestate` as
W3C Trace Context has them, and `correlation_id`.  Values only; a context variable holds them, which
coroutines, their tasks and the threads of sync handlers see.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
CORRELATION_ID = "correlation_id"

NOTHING: Mapping[str, str] = MappingProxyType({})

_MOST_BYTES = 256
_MOST_STATE_BYTES = 512  # what the recommendation of the W3C has every program carry
_TRACEPARENT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
# A context that is longer may be near its limit.
_MOST_TOUCHED_BYTES = 1 << 19


class RunningTask(Protocol):
    """A claimed task, as far as it is told of."""

    @property
    def namespace(self) -> str: ...  # noqa: D102 - the words of the specification
    @property
    def process_id(self) -> str: ...  # noqa: D102
    @property
    def task_id(self) -> int: ...  # noqa: D102
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str | None: ...  # noqa: D102
    @property
    def attempt(self) -> int: ...  # noqa: D102


class Current:
    """The task whose step runs here, if one does, in which worker, and what travels on from here.

    Not a dataclass: one is made for each step, and a frozen one costs three times as much.
    """

    __slots__ = ("carried", "task", "worker_id")

    def __init__(
        self,
        task: RunningTask | None = None,
        worker_id: int | None = None,
        carried: Mapping[str, str] = NOTHING,
    ) -> None:
        self.task = task
        self.worker_id = worker_id
        self.carried = carried

    def with_carried(self, carried: Mapping[str, str]) -> Current:
        """Return the same step with *carried* over what travelled before."""
        return Current(self.task, self.worker_id, {**self.carried, **carried})

    def with_trace(self, traceparent: str, tracestate: str | None) -> Current:
        """Return the same step going on with another trace."""
        carried = {**self.carried, TRACEPARENT: traceparent}
        carried.pop(TRACESTATE, None)
        if tracestate:
            carried[TRACESTATE] = tracestate
        return Current(self.task, self.worker_id, carried)

    def fields(self) -> dict[str, object]:
        """Return what a line of the log says of it."""
        fields: dict[str, object] = {}
        if (task := self.task) is not None:
            fields = {
                "namespace": task.namespace,
                "process_id": task.process_id,
                "task_id": task.task_id,
                "type": task.type,
                "name": task.name,
                "attempt": task.attempt,
                "worker_id": self.worker_id,
            }
        if (traceparent := self.carried.get(TRACEPARENT)) is not None:
            fields["trace_id"] = trace_id_of(traceparent)
        fields["correlation_id"] = self.carried.get(CORRELATION_ID)
        return fields


OUTSIDE = Current()
current: ContextVar[Current] = ContextVar("pgprog_current", default=OUTSIDE)


def trace_id_of(traceparent: str) -> str:
    """Return the id of the trace, 32 hexadecimal digits."""
    return traceparent[3:35]


def checked(given: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Return what of *given* can travel, and what is wrong with the rest, without repeating it.

    What is None or missing is no fault, and a tracestate without its traceparent is left out.
    """
    carried: dict[str, str] = {}
    faults: list[str] = []
    for name, fault_of in _FAULTS.items():
        value = given.get(name)
        if value is None or (name == TRACESTATE and TRACEPARENT not in carried):
            continue
        if not isinstance(value, str):
            faults.append(f"{name} is no text")
        elif (fault := fault_of(value)) is not None:
            faults.append(f"{name} {fault}")
        else:
            carried[name] = value
    return carried, faults


def read_context(raw: bytes | None) -> tuple[Mapping[str, str], list[str]]:
    """Return what travels in the context of a task, and what is wrong with the rest."""
    if raw is None or not any(name in raw for name in _KEYS):
        return NOTHING, []
    try:
        given = _ANY_OBJECT.decode(raw)
    except (ValueError, RecursionError):  # an array, a text, a great depth: the application's own
        return NOTHING, []
    return checked({name: given.get(name) for name in _FAULTS})


def context_with(raw: bytes | None, carried: Mapping[str, str]) -> bytes | None:
    """Return the context of a task with what travels in it; what it says itself stays.

    A context that is no object is left as it is, and so is one of more than half a MiB.
    """
    if not carried or (raw is not None and len(raw) > _MOST_TOUCHED_BYTES):
        return raw
    if raw is None:
        return msgspec.json.encode({**carried})
    try:
        own = _RAW_OBJECT.decode(raw)
    except (ValueError, RecursionError):
        return raw
    if own.get(TRACEPARENT) is not None:  # a tracestate belongs to its own traceparent
        carried = {name: text for name, text in carried.items() if name != TRACESTATE}
    return msgspec.json.encode({**carried, **own})


def _fault_of_traceparent(text: str) -> str | None:
    found = _TRACEPARENT.fullmatch(text) if len(text) <= _MOST_BYTES else None
    if found is not None:
        version, trace_id, parent_id, more = found.groups()
        is_whole = version != "ff" and (version != "00" or more is None)
        if is_whole and trace_id.strip("0") and parent_id.strip("0"):
            return None
    return "is not as W3C Trace Context has it"


def _fault_of_tracestate(text: str) -> str | None:
    if len(text) <= _MOST_STATE_BYTES and text.isascii() and text.isprintable():
        return None
    return f"is not printable ASCII of at most {_MOST_STATE_BYTES} bytes"


def _fault_of_correlation_id(text: str) -> str | None:
    if text and text.isprintable() and len(text.encode()) <= _MOST_BYTES:
        return None
    return f"is not a printable text of 1 to {_MOST_BYTES} bytes"


_FAULTS = {
    TRACEPARENT: _fault_of_traceparent,
    TRACESTATE: _fault_of_tracestate,
    CORRELATION_ID: _fault_of_correlation_id,
}
_KEYS = (b'"traceparent"', b'"correlation_id"')
_ANY_OBJECT = msgspec.json.Decoder(dict[str, object])
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
