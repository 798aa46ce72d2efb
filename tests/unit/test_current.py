"""What travels with tasks, and what is left out."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from tests.unit.claims import make_claim

import pgprog
from pgprog import Event, Request, testing
from pgprog.client.requests import raw_request
from pgprog.current import OUTSIDE, checked, context_with, current, read_context
from pgprog.store.rows import Completion, NewEvent, Outcome
from pgprog.tracing import enter_step

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def sent(context: object = None) -> Any:
    """Return the context that a request is sent with."""
    raw = raw_request(Request("call", "orders", "o-1", context=context)).context
    return None if raw is None else json.loads(raw)


@pytest.mark.parametrize(
    "text",
    [
        TRACE,
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09-what-comes-later",
    ],
)
def test_a_traceparent_of_the_recommendation_travels(text: str) -> None:
    assert checked({"traceparent": text}) == ({"traceparent": text}, [])


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "secret",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        f"{TRACE}\n",
        f"01-{TRACE[3:]}-{'x' * 300}",
        17,
        {"secret": 1},
    ],
)
def test_garbage_does_not_travel_and_is_not_repeated(garbage: object) -> None:
    carried, [fault] = checked({"traceparent": garbage, "tracestate": "a=1"})

    assert carried == {}
    assert fault.startswith("traceparent is n")
    assert "secret" not in fault


@pytest.mark.parametrize("garbage", ["", "x" * 257, "a\nb", "\x1b[31m", "\ud800", 1, ["a"]])
def test_a_correlation_id_is_a_printable_text_of_at_most_256_bytes(garbage: object) -> None:
    assert checked({"correlation_id": "ü" * 128}) == ({"correlation_id": "ü" * 128}, [])
    assert checked({"correlation_id": garbage})[0] == {}


@pytest.mark.parametrize("raw", [None, b"{}", b"[1]", b'"correlation_id"', b'{"a": 1e400}'])
def test_a_context_of_the_application_alone_carries_nothing(raw: bytes | None) -> None:
    assert read_context(raw) == ({}, [])


def test_what_travels_joins_the_context_of_a_request_which_has_the_last_word() -> None:
    with pgprog.carry(traceparent=TRACE, tracestate="a=1", correlation_id="req-1"):
        assert sent() == {
            "traceparent": TRACE,
            "tracestate": "a=1",
            "correlation_id": "req-1",
        }
        assert sent({"tenant": 7, "correlation_id": "own"})["correlation_id"] == "own"
        assert sent({"tenant": 7})["tenant"] == 7
        assert sent({"traceparent": OTHER}) == {"traceparent": OTHER, "correlation_id": "req-1"}
        assert sent(["of the", "application"]) == ["of the", "application"]
        assert sent(msgspec.Raw(b'{"n": 1.10}'))["n"] == 1.1
    assert sent() is None


def test_the_digits_of_a_context_stay() -> None:
    assert (
        context_with(b'{"n":1.10}', {"correlation_id": "c"}) == b'{"correlation_id":"c","n":1.10}'
    )


def test_a_context_that_may_be_near_its_limit_is_left_alone() -> None:
    long = b'{"a":"' + b"x" * (1 << 19) + b'"}'

    assert context_with(long, {"correlation_id": "c"}) is long


def test_what_travels_is_told_within_a_block_and_not_after_it() -> None:
    with pgprog.carry(traceparent=TRACE, tracestate="a=1", correlation_id="outer"):
        with pgprog.carry(correlation_id="inner"):
            assert (pgprog.traceparent(), pgprog.correlation_id()) == (TRACE, "inner")
        with pgprog.carry(traceparent=OTHER):
            assert current.get().carried == {"traceparent": OTHER, "correlation_id": "outer"}
    assert (pgprog.traceparent(), pgprog.correlation_id()) == (None, None)
    assert current.get() is OUTSIDE


def test_garbage_of_a_caller_is_warned_of_and_the_rest_travels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pgprog.carry(traceparent="secret", correlation_id="req-1"):
        assert sent() == {"correlation_id": "req-1"}

    [record] = caplog.records
    fields = vars(record)["fields"]
    assert (record.levelname, record.getMessage()) == ("WARNING", "trace_context_ignored")
    assert fields["detail"] == "traceparent is not as W3C Trace Context has it"


def test_a_step_that_is_tested_without_a_database_carries_its_context() -> None:
    namespace = pgprog.Namespace("orders")
    seen = []

    @namespace.call
    def look(step: pgprog.Step[Any]) -> None:
        seen.append((pgprog.correlation_id(), sent()))

    testing.run_step(namespace, "call", name="look", context={"correlation_id": "req-1"})

    assert seen == [("req-1", {"correlation_id": "req-1"})]
    assert current.get() is OUTSIDE


def test_no_repr_shows_a_payload() -> None:
    secret, raw = {"secret": 1}, b'{"secret": 1}'
    claimed = make_claim(1)._replace(args=raw, context=raw, state=raw, metadata=raw)
    event = NewEvent(raw, raw)
    shown = [
        claimed,
        event,
        Completion(claimed, Outcome.FINISHED, state=raw, response=raw, events=[event]),
        raw_request(Request("call", "orders", "o-1", secret, context=secret)),
        Request("call", "orders", "o-1", secret, context=secret),
    ]
    namespace = pgprog.Namespace("orders")

    @namespace.call
    def look(step: pgprog.Step[Any]) -> None:
        shown.append(step)

    testing.run_step(namespace, "call", name="look", args=None, state=secret, metadata=secret)

    assert "secret" not in repr(shown)
    assert "secret" in repr(Event(secret))  # what a program has read it may look at


def test_what_is_logged_in_a_step_says_of_which(caplog: pytest.LogCaptureFixture) -> None:
    context = json.dumps({"traceparent": TRACE, "correlation_id": "req-1"}).encode()
    claimed = make_claim(5)._replace(context=context, name=None)
    token = current.set(OUTSIDE)
    try:
        enter_step(claimed, context, worker_id=3)
        pgprog.logs.get("pgprog.x").warning("seen", more=1, attempt=9)
    finally:
        current.reset(token)

    [record] = caplog.records
    assert vars(record)["fields"] == {
        "namespace": claimed.namespace,
        "process_id": claimed.process_id,
        "task_id": claimed.task_id,
        "type": claimed.type,
        "attempt": 9,
        "worker_id": 3,
        "trace_id": TRACE[3:35],
        "correlation_id": "req-1",
        "more": 1,
    }


def test_a_program_that_imports_pgprog_keeps_its_own_logging() -> None:
    look = (
        "import logging, sys, pgprog\n"
        "assert not logging.getLogger().handlers and not logging.getLogger('pgprog').handlers\n"
        "assert logging.getLogger('pgprog').level == logging.NOTSET\n"
        "print([m for m in ('structlog', 'opentelemetry', 'cryptography') if m in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", look], capture_output=True, check=True)

    assert answer.stdout == b"[]\n"
    assert logging.getLogger("pgprog").handlers == []
