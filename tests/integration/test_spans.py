"""The spans of requests, steps and completions, as an exporter of OpenTelemetry gets them."""

from __future__ import annotations

import asyncio
import importlib
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastapi
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pgprog
from pgprog import (
    Client,
    Intent,
    Namespace,
    PermanentError,
    Reject,
    SetTimer,
    Step,
    TransientError,
)
from pgprog.contrib.fastapi import carry_request
from pgprog.errors import Rejected, StepFailed
from pgprog.tracing.spans import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg


PROGRAMS = Path(__file__).parent / "programs"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACE = f"00-{TRACE_ID}-b7ad6b7169203331-01"
RETRY = {"initial_interval": "1ms", "jitter": 0.0, "max_attempts": 3}


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, name: str) -> list[Any]:
        """Return those of a name, by their start."""
        spans = [each for each in self._exporter.get_finished_spans() if each.name == name]
        return sorted(spans, key=lambda each: each.start_time or 0)

    async def wait_for(self, name: str, count: int) -> list[Any]:
        """Return those of a name, once there are so many."""
        async with asyncio.timeout(20):
            while len(found := self.named(name)) < count:
                await asyncio.sleep(0.01)
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    provider = TracerProvider()
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # a program may set it once only
    yield Spans(exporter)
    provider.shutdown()


@pytest.fixture
def shop() -> Namespace[Any]:
    """Handlers of both colours, which fail when they are told to."""
    namespace = Namespace(
        "shop", retry=RETRY, retry_by_type={"call": RETRY}, on_call_error="reject"
    )

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @namespace.call
    async def pay(step: Step[Any], failures: int = 0) -> Intent[Any, Any]:
        with trace.get_tracer("bank").start_as_current_span("charge"):
            if step.attempt <= failures:
                raise TransientError("no answer")
        return Intent(response=pgprog.traceparent())

    @namespace.call
    def pay_blocking(step: Step[Any], failures: int = 0) -> Intent[Any, Any]:
        with trace.get_tracer("bank").start_as_current_span("charge"):
            if step.attempt <= failures:
                raise TransientError("no answer")
        return Intent(response=pgprog.traceparent())

    @namespace.call
    def refuse(step: Step[Any], how: str) -> None:
        raise {"reject": Reject("no"), "permanent": PermanentError("no"), "odd": KeyError("x")}[how]

    @namespace.call
    def expect(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta(), name="soon")])

    @namespace.timeout("soon")
    def look(step: Step[Any]) -> None:
        if step.attempt == 1:
            raise TransientError("not yet")

    return namespace


def trace_id(span: Any) -> Any:
    assert span.context is not None
    return span.context.trace_id


def is_child(span: Any, of: Any) -> bool:
    assert of.context is not None
    return (
        span.parent is not None
        and span.parent.span_id == of.context.span_id
        and trace_id(span) == trace_id(of)
    )


@pytest.mark.parametrize("name", ["pay", "pay_blocking"])
async def test_a_request_its_step_and_its_completion_are_spans_of_one_trace(
    make_engine: Any, shop: Any, spans: Spans, name: str
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        with (
            trace.get_tracer("host").start_as_current_span("request"),
            pgprog.carry(correlation_id="req-1"),
        ):
            told = await engine.call("shop", "p", name=name)

    [host], [request], [charge] = map(spans.named, ("request", "call shop", "charge"))
    [_, step], [_, completion] = map(spans.named, ("step shop", "complete shop"))
    assert is_child(request, host)
    assert is_child(step, request)
    assert is_child(charge, step)
    assert is_child(completion, step)
    assert [each.kind for each in (request, step, completion)] == [
        SpanKind.PRODUCER, SpanKind.CONSUMER, SpanKind.CLIENT,
    ]  # fmt: skip
    assert told.split("-")[2] == trace.format_span_id(step.context.span_id)
    attributes = dict(step.attributes or {})
    task_id = attributes.pop("messaging.message.id")
    assert (request.attributes or {})["messaging.message.id"] == task_id
    assert attributes.pop("pgprog.worker_id") > 0
    assert attributes == {
        "messaging.system": "pgprog",
        "messaging.operation.name": "step",
        "messaging.operation.type": "process",
        "messaging.destination.name": "shop",
        "messaging.message.conversation_id": "req-1",
        "pgprog.process_id": "p",
        "pgprog.task.type": "call",
        "pgprog.task.name": name,
        "pgprog.task.attempt": 1,
        "pgprog.outcome": "finished",
    }


async def test_each_of_many_requests_begins_a_trace_of_its_own(
    make_engine: Any, shop: Any, spans: Spans
) -> None:
    async with make_engine(shop) as engine:
        await engine.submit_many(pgprog.Request("init", "shop", each) for each in "ab")
        steps = await spans.wait_for("step shop", 2)

    requests = spans.named("init shop")
    assert len({trace_id(each) for each in requests}) == 2
    assert {trace_id(each) for each in steps} == {trace_id(each) for each in requests}


@pytest.mark.parametrize("name", ["pay", "pay_blocking"])
async def test_a_retry_is_a_span_that_links_to_the_first_attempt(
    make_engine: Any, shop: Any, spans: Spans, name: str
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        await engine.call("shop", "p", {"failures": 2}, name=name)

    [request], [_, first, second, third] = spans.named("call shop"), spans.named("step shop")
    assert [is_child(each, request) for each in (first, second, third)] == [True] * 3
    assert first.links == ()
    for each in (second, third):
        [link] = each.links
        assert link.context.span_id == first.context.span_id
    assert [each.attributes["pgprog.outcome"] for each in (first, second, third)] == [
        "retry", "retry", "finished",
    ]  # fmt: skip
    assert [each.status.status_code for each in (second, third)] == [
        StatusCode.ERROR, StatusCode.UNSET,
    ]  # fmt: skip


async def test_a_task_of_sql_and_its_timer_go_on_with_the_trace_that_it_was_given(
    make_engine: Any, shop: Any, spans: Spans, sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        sql.execute(
            "select pgprog.call('shop', 'p', name => 'expect', context => %s::jsonb)",
            (f'{{"traceparent": "{TRACE}"}}',),
        )
        steps = (await spans.wait_for("step shop", 4))[1:]

    assert [each.attributes["pgprog.task.type"] for each in steps] == ["call", "timeout", "timeout"]
    for each in steps:
        assert trace.format_trace_id(trace_id(each)) == TRACE_ID
        assert trace.format_span_id(each.parent.span_id) == "b7ad6b7169203331"
        assert each.parent.is_remote
    assert steps[2].links[0].context.span_id == steps[1].context.span_id


async def test_a_task_of_sql_without_a_trace_begins_one(
    make_engine: Any, shop: Any, spans: Spans, sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        sql.execute("select pgprog.call('shop', 'p', name => 'pay')")
        _, step = await spans.wait_for("step shop", 2)

    assert step.parent is None


@pytest.mark.parametrize(
    ("how", "error", "outcome", "error_type"),
    [
        ("reject", Rejected, "rejected", None),
        ("permanent", StepFailed, "failed", "PermanentError"),
        ("odd", StepFailed, "failed", "KeyError"),
    ],
)
async def test_a_span_tells_how_its_step_ended(
    make_engine: Any, shop: Any, spans: Spans, how: str, error: type[Exception],
    outcome: str, error_type: str | None,
) -> None:  # fmt: skip
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        with pytest.raises(error):
            await engine.call("shop", "p", {"how": how}, name="refuse")

    step, completion = spans.named("step shop")[-1], spans.named("complete shop")[-1]
    request = spans.named("call shop")[-1]
    for each in (step, completion):
        assert each.attributes["pgprog.outcome"] == outcome
        assert each.attributes.get("error.type") == error_type
    assert [event.name for event in step.events] == (["exception"] if how == "odd" else [])
    assert request.status.status_code is StatusCode.ERROR
    assert request.attributes["error.type"] == error.__name__


@pytest.mark.slow  # a child process is started
async def test_a_step_in_a_child_process_is_a_span_of_its_worker(
    make_engine: Any, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)
    program = importlib.import_module("travelling")
    async with make_engine(program.in_child) as engine:
        told = await engine.init("in_child", "p")
        step, _, retried = await spans.wait_for("step in_child", 3)

    [request] = spans.named("init in_child")
    assert is_child(step, request)
    assert told["traceparent"].split("-")[2] == trace.format_span_id(step.context.span_id)
    assert len(retried.links) == 1
    assert all(is_child(each, step) for each in spans.named("complete in_child")[:1])


async def test_requests_of_a_step_and_of_a_bound_client_go_on_with_its_trace(
    make_engine: Any, spans: Spans, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROGRAMS)
    program = importlib.import_module("travelling")
    async with make_engine(program.asking) as engine:
        await engine.init("asking", "p")
        await engine.submit("notify", "asking", "p", {"dsn": db}, name="ask_blocking")
        steps = await spans.wait_for("step asking", 4)

    asked = spans.named("notify asking")
    assert len(asked) == 3
    assert all(is_child(each, steps[1]) for each in asked[1:])
    assert {trace_id(each) for each in steps[1:]} == {trace_id(asked[0])}


def test_a_sync_client_goes_on_with_the_span_of_its_thread(
    db: str, shop: Any, make_engine: Any, spans: Spans
) -> None:
    with (
        make_engine(shop),
        Client(db) as client,
        trace.get_tracer("host").start_as_current_span("request"),
    ):
        client.init("shop", "p")

    [host], [request], [step] = map(spans.named, ("request", "init shop", "step shop"))
    assert is_child(request, host)
    assert is_child(step, request)


async def test_carry_sets_the_trace_of_spans_too(make_engine: Any, shop: Any, spans: Spans) -> None:
    async with make_engine(shop) as engine:
        with pgprog.carry(traceparent=TRACE):
            await engine.init("shop", "p")
        await engine.call("shop", "p", name="pay")

    [init], [call] = spans.named("init shop"), spans.named("call shop")
    assert trace.format_trace_id(trace_id(init)) == TRACE_ID
    assert call.parent is None


async def test_a_program_that_has_set_up_no_provider_makes_no_span(
    make_engine: Any, shop: Any
) -> None:
    assert telemetry() is None
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")

        assert await engine.call("shop", "p", name="pay") is None


async def test_what_travels_stays_where_opentelemetry_is_switched_off(
    make_engine: Any, shop: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    async with make_engine(shop) as engine:
        await engine.init("shop", "p")
        without = await engine.call("shop", "p", name="pay")
        with pgprog.carry(traceparent=TRACE):
            within = await engine.call("shop", "p", name="pay")

    assert (without, within) == (None, TRACE)
    assert "trace_context_ignored" not in caplog.messages


async def test_an_endpoint_that_is_traced_goes_on_with_its_own_span(spans: Spans) -> None:
    app = fastapi.FastAPI(dependencies=[fastapi.Depends(carry_request)])

    @app.get("/")
    def tell() -> Any:
        return [pgprog.correlation_id(), pgprog.traceparent()]

    headers = {"x-request-id": "req-1", "traceparent": TRACE}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as web:
        with trace.get_tracer("web").start_as_current_span("GET /"):
            traced = await web.get("/", headers=headers)

    assert spans.named("GET /")
    assert traced.json() == ["req-1", None]
