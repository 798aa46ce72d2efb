"""Spans, where the program has set up OpenTelemetry; elsewhere nothing is imported, nothing done.

A request, a step and its completion have one each.  A step's goes on with the trace that its task
carries, and what it asks for goes on with the step's.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pgprog.current import Current
    from pgprog.tracing.otel import OpenTelemetry, StepSpan


class Requested(Protocol):
    """A request, as far as its span tells of it."""

    @property
    def type(self) -> str: ...  # noqa: D102 - the words of the specification
    @property
    def namespace(self) -> str: ...  # noqa: D102
    @property
    def process_id(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str | None: ...  # noqa: D102


class RequestSpan(Protocol):
    """The span of a request, or of none."""

    def sent(self, task_id: int) -> None:
        """Note which task it became."""


class _NoSpan:
    """Stands for a span, at the price of two calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def sent(self, task_id: int) -> None:
        pass


_NO_SPAN = _NoSpan()


class _Seen:
    """What was made of the provider of this program, which it sets once."""

    provider: object = None
    telemetry: OpenTelemetry | None = None


def telemetry() -> OpenTelemetry | None:
    """Return what makes spans, None where the program has set up no OpenTelemetry.

    It is asked for every step: a program that never imported OpenTelemetry cannot have set it up.
    """
    api = sys.modules.get("opentelemetry.trace")
    get_provider = getattr(api, "get_tracer_provider", None)  # another thread may be importing it
    if get_provider is None:
        return None
    provider = get_provider()
    if provider is not _Seen.provider:
        from pgprog.tracing.otel import OpenTelemetry  # noqa: PLC0415 - an extra

        _Seen.telemetry = OpenTelemetry.of(provider)
        _Seen.provider = provider
    return _Seen.telemetry


def is_traced() -> bool:
    """Return whether the program has a span of its own begun here."""
    found = telemetry()
    return found is not None and found.has_span()


def requesting(request: Requested) -> AbstractContextManager[RequestSpan]:
    """Embrace a request with its span; what is sent within carries it."""
    found = telemetry()
    return _NO_SPAN if found is None else found.requesting(request)


def begin_step(here: Current) -> StepSpan | None:
    """Begin the span of the step that was entered, which carries it on; None without spans."""
    found = telemetry()
    return None if found is None else found.begin_step(here)


def attach(here: Current) -> None:
    """Let spans that handlers begin go on with what travels *here*, for a step in a child."""
    found = telemetry()
    if found is not None:
        found.attach(here)


def going_on(here: Current) -> AbstractContextManager[None]:
    """Let spans that are begun within the block go on with what travels *here*."""
    found = telemetry()
    return nullcontext() if found is None else found.going_on(here)


def record(error: BaseException) -> None:
    """Tell the span of the step that runs here of an error that nobody had foreseen."""
    found = telemetry()
    if found is not None:
        found.record(error)
