"""Spans of OpenTelemetry with the attributes of its conventions for messaging."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from pgprog.current import (
    CORRELATION_ID,
    TRACEPARENT,
    TRACESTATE,
    current,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from pgprog.current import Current, RunningTask
    from pgprog.tracing.spans import Requested

_NONE = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


class OpenTelemetry:
    """Makes the spans of this program."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @classmethod
    def of(cls, provider: TracerProvider) -> OpenTelemetry | None:
        """Return that of a provider, None of one that stands for none."""
        return None if isinstance(provider, _NONE) else cls(provider.get_tracer("pgprog"))

    @contextmanager
    def requesting(self, request: Requested) -> Iterator[OpenRequest]:
        """Embrace a request; an error that leaves the block is noted."""
        attributes = _attributes(request, operation=request.type, kind="send")
        with self._tracer.start_as_current_span(
            f"{request.type} {request.namespace}",
            kind=SpanKind.PRODUCER,
            attributes=attributes,
            record_exception=False,  # its message may quote the answer
            set_status_on_exception=False,
        ) as span:
            here = current.get()
            token = current.set(here.with_trace(*_carried(span)) if _is_one(span) else here)
            try:
                yield OpenRequest(span)
            except Exception as e:
                _fail(span, type(e).__name__)
                raise
            finally:
                current.reset(token)

    def begin_step(self, here: Current) -> StepSpan | None:
        """Begin the span of a step, within the trace that it carries; None where it has none."""
        task = here.task
        if task is None:
            msg = "no step was entered"
            raise RuntimeError(msg)
        attributes = {
            **_attributes(task, operation="step", kind="process"),
            "messaging.message.id": str(task.task_id),
            "pgprog.task.attempt": task.attempt,
        }
        if here.worker_id is not None:
            attributes["pgprog.worker_id"] = here.worker_id
        if (correlation_id := here.carried.get(CORRELATION_ID)) is not None:
            attributes["messaging.message.conversation_id"] = correlation_id
        span = self._tracer.start_span(
            f"step {task.namespace}",
            context=_remote(here.carried),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        )
        contexts.attach(trace.set_span_in_context(span, contexts.Context()))
        if not _is_one(span):
            return None
        here.carried = here.with_trace(*_carried(span)).carried
        return StepSpan(self._tracer, span, task)

    def attach(self, here: Current) -> None:
        """Let further spans of this context go on with what travels *here*."""
        contexts.attach(_remote(here.carried))

    @contextmanager
    def going_on(self, here: Current) -> Iterator[None]:
        """Let spans that are begun within the block go on with what travels *here*."""
        token = contexts.attach(_remote(here.carried))
        try:
            yield
        finally:
            contexts.detach(token)

    def has_span(self) -> bool:
        """Return whether a span is open in this context, whoever has begun it."""
        return trace.get_current_span().get_span_context().is_valid

    def record(self, error: BaseException) -> None:
        """Tell the span of this context of an error."""
        trace.get_current_span().record_exception(error)


class OpenRequest:
    """The span of a request that is open."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def sent(self, task_id: int) -> None:
        """Note which task it became."""
        self._span.set_attribute("messaging.message.id", str(task_id))


class StepSpan:
    """The span of a step and then that of its completion."""

    def __init__(self, tracer: Tracer, span: Span, task: RunningTask) -> None:
        self.traceparent, _ = _carried(span)
        self._tracer = tracer
        self._step = span
        self._task = task
        self._completion: Span | None = None

    def link(self, traceparent: str | None) -> None:
        """Link to the first attempt of the task."""
        context = trace.get_current_span(_remote({TRACEPARENT: traceparent or ""}))
        if context.get_span_context().is_valid:
            self._step.add_link(context.get_span_context(), {"pgprog.link": "first attempt"})

    def handled(self, outcome: str, *, error_type: str | None = None) -> None:
        """End the step's: its handler has ended; that of the completion begins."""
        self._end(self._step, outcome, error_type)
        context = trace.set_span_in_context(self._step)
        self._completion = self._tracer.start_span(
            f"complete {self._task.namespace}",
            context=context,
            kind=SpanKind.CLIENT,
            attributes={
                **_attributes(self._task, operation="complete", kind="settle"),
                "messaging.message.id": str(self._task.task_id),
            },
        )

    def given_up(self, why: str) -> None:
        """End what is open: nothing of the step is committed."""
        for span in (self._step, self._completion):
            if span is not None:
                self._end(span, why, None)

    def settled(self, outcome: str, *, error_type: str | None = None) -> None:
        """End the completion's: the database has answered."""
        if self._completion is not None:
            self._end(self._completion, outcome, error_type)

    def _end(self, span: Span, outcome: str, error_type: str | None) -> None:
        if not span.is_recording():  # sampled out, or ended before
            return
        span.set_attribute("pgprog.outcome", outcome)
        if error_type is not None:
            _fail(span, error_type)
        span.end()


def _fail(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, error_type))


def _attributes(task: Requested | RunningTask, *, operation: str, kind: str) -> dict[str, Any]:
    """Return the attributes of the conventions for messaging, and ours; no payload is one."""
    attributes: dict[str, Any] = {
        "messaging.system": "pgprog",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": task.namespace,
        "pgprog.process_id": task.process_id,
        "pgprog.task.type": str(task.type),
    }
    if task.name:
        attributes["pgprog.task.name"] = task.name
    return attributes


def _is_one(span: Span) -> bool:
    """Return whether it is a span: a tracer that is switched off gives one without a trace."""
    return span.get_span_context().is_valid


def _carried(span: Span) -> tuple[str, str | None]:
    """Return the traceparent and the tracestate that say to go on with *span*."""
    context = span.get_span_context()
    trace_id = trace.format_trace_id(context.trace_id)
    span_id = trace.format_span_id(context.span_id)
    return f"00-{trace_id}-{span_id}-{context.trace_flags:02x}", context.trace_state.to_header()


def _remote(carried: Mapping[str, str]) -> Context:
    """Return the context that goes on with what was carried here, an empty one without a trace."""
    traceparent = carried.get(TRACEPARENT)
    if not traceparent:
        return contexts.Context()
    _, trace_id, span_id, flags, *_ = traceparent.split("-")
    state = carried.get(TRACESTATE)
    return trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(
                trace_id=int(trace_id, 16),
                span_id=int(span_id, 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(flags, 16)),
                trace_state=trace.TraceState.from_header([state] if state else []),
            )
        ),
        contexts.Context(),
    )
