"""The trace of a step: what it carries, its span, and that of its completion."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from pgprog.store.faults import OUTLIVED
from pgprog.store.rows import Outcome
from pgprog.tracing import enter_step
from pgprog.tracing.spans import attach, begin_step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgprog.engine.holdings import Held
    from pgprog.store.rows import Completion

_FAILED = (Outcome.RETRY, Outcome.BROKEN, Outcome.FAILED, Outcome.CRITICAL)
_ERROR = msgspec.json.Decoder(dict[str, msgspec.Raw])


def enter(held: Held, *, worker_id: int) -> None:
    """Be in the step of a claim from here to the end of this context of Python's."""
    here = enter_step(held.claimed, held.claimed.context, worker_id=worker_id, carried=held.carried)
    if held.carried is not None:  # its span is the worker's, and we are a child of it
        attach(here)
        return
    held.span = begin_step(here)
    held.carried = here.carried


async def link(held: Held, first_trace: Callable[[int], Awaitable[str | None]]) -> None:
    """Link the span of a further attempt to the first, as far as the database can tell."""
    if held.span is not None:
        with suppress(*OUTLIVED):
            held.span.link(await first_trace(held.claimed.task_id))


def handled(held: Held, completion: Completion | None) -> Completion | None:
    """Return the completion to be made, after the span of the step has ended.

    That of another attempt says where the trace of this one is: the next links to the first.
    """
    span = held.span
    if span is None:
        return completion
    if completion is None or held.is_dropped:
        span.given_up("given back")
        return completion
    span.handled(_word(completion), error_type=_error_type(completion))
    if completion.outcome is Outcome.RETRY and completion.error is not None:
        error = {**_ERROR.decode(completion.error), "traceparent": span.traceparent}
        return completion._replace(error=msgspec.json.encode(error))
    return completion


def settled(held: Held, outcome: str, completion: Completion) -> None:
    """End the span of a completion, unless it has to be given again."""
    if held.span is None or outcome == "busy":
        return
    if outcome in ("done", "already"):
        held.span.settled(_word(completion), error_type=_error_type(completion))
    else:
        held.span.settled(outcome, error_type="LeaseLost")


def given_up(held: Held, why: str = "given back") -> None:
    """End the spans of a step of which nothing is committed."""
    if held.span is not None:
        held.span.given_up(why)


def _word(completion: Completion) -> str:
    return completion.outcome.name.lower()


def _error_type(completion: Completion) -> str | None:
    if completion.outcome not in _FAILED or completion.error is None:
        return None
    told = _ERROR.decode(completion.error).get("error_type")
    return None if told is None else str(msgspec.json.decode(told))
