"""From the caller into the context of a task, and from there into its step."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.current import (
    CORRELATION_ID,
    NOTHING,
    TRACEPARENT,
    TRACESTATE,
    Current,
    checked,
    context_with,
    current,
    read_context,
)
from pgprog.tracing.spans import going_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pgprog.current import RunningTask

log = logs.get(__name__)


@contextmanager
def carry(
    *,
    correlation_id: str | None = None,
    traceparent: str | None = None,
    tracestate: str | None = None,
) -> Iterator[None]:
    """Let these travel with all that is asked for within the block, and stand in its logs.

    None leaves what travels already.  They mostly come from elsewhere, such as the headers of a
    request: what is not well-formed is left out with a warning, and never an error.
    """
    given = {CORRELATION_ID: correlation_id, TRACEPARENT: traceparent, TRACESTATE: tracestate}
    carried, faults = checked(given)
    here = current.get()
    if TRACEPARENT in carried:
        here = here.with_trace(carried[TRACEPARENT], carried.get(TRACESTATE))
    if CORRELATION_ID in carried:
        here = here.with_carried({CORRELATION_ID: carried[CORRELATION_ID]})
    token = current.set(here)
    _warn(faults)
    try:
        with going_on(here) if TRACEPARENT in carried else nullcontext():
            yield
    finally:
        current.reset(token)


def correlation_id() -> str | None:
    """Return the correlation id that travels here: of the step, or of the block of `carry`."""
    return current.get().carried.get(CORRELATION_ID)


def traceparent() -> str | None:
    """Return the traceparent that travels here: of the step, or of the block of `carry`."""
    return current.get().carried.get(TRACEPARENT)


def enter_step(
    task: RunningTask,
    context: bytes | None,
    *,
    worker_id: int | None = None,
    carried: Mapping[str, str] | None = None,
) -> Current:
    """Be in the step of *task* from here to the end of this context of Python's.

    What travels is *carried* or, without it, what the *context* of the task says.
    """
    faults: Sequence[str] = ()
    if carried is None:
        carried, faults = (NOTHING, ()) if context is None else read_context(context)
    here = Current(task, worker_id, carried)
    current.set(here)
    if faults:
        _warn(faults)
    return here


def sent_context(context: bytes | None) -> bytes | None:
    """Return the context that a task is sent with, under what its caller gave."""
    return context_with(context, current.get().carried)


def _warn(faults: Iterable[str]) -> None:
    for fault in faults:
        log.warning("trace_context_ignored", detail=fault)
