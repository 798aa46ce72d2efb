"""Handlers that log, fail and ask others, in every place where handlers run."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from msgspec import Raw

import pgprog
from pgprog import Client, Event, Intent, Namespace, Reject, SetTimer, Step, TransientError

SECRET = "planted-secret"
log = logging.getLogger("shop")
log.setLevel("INFO")

RETRY = {"initial_interval": "10ms", "jitter": 0.0, "max_attempts": 3}
in_loop = Namespace("in_loop", retry=RETRY, on_call_error="reject")
in_thread = Namespace("in_thread", retry=RETRY, on_call_error="reject")
in_child = Namespace("in_child", retry=RETRY, on_call_error="reject", isolation="process")


def kept(more: dict[str, Any] | None = None) -> Intent[Any, Any]:
    """Keep the secret wherever an intent may have one, with a timer."""
    return Intent(
        state={"is": SECRET},
        metadata={"is": SECRET},
        events=[Event({"is": SECRET}, {"is": SECRET}), {"is": SECRET}],
        response={"is": SECRET, **(more or {})},
        timers=[SetTimer(after=timedelta(), name="soon")],
    )


def fail(step: Step[Any], how: str) -> Any:
    """Fail as the args say."""
    match how:
        case "reject":
            raise Reject({"is": SECRET})
        case "odd":
            held = step.state
            raise LookupError(f"nothing for {type(held).__name__}")
        case "no intent":
            return step.state
        case "no JSON":
            return Intent(state={SECRET: object()})
        case "no event":
            return Intent(events=[{"is": SECRET, "nan": float("nan")}])
        case _:  # JSON may say it, and PostgreSQL cannot store it
            return Intent(state={"is": SECRET, "n": Raw(b"1e200000")})


@in_loop.processor
async def serve(step: Step[Any], args: Any = None) -> Any:
    """Serve in the loop."""
    log.info("seen in %s", step.namespace)
    return serve_blocking(step)


@in_thread.processor
@in_child.processor
def serve_blocking(step: Step[Any], args: Any = None) -> Any:
    """Serve in a thread, or in a child."""
    if step.namespace != "in_loop":
        log.info("seen in %s", step.namespace)
    if step.name == "fail":
        return fail(step, args["how"])
    if step.name == "soon" and step.attempt == 1:
        raise TransientError("not yet")
    if step.type == "timeout":
        return Intent(events=[told()])
    return kept(told())


def told() -> dict[str, Any]:
    """Return what travels here."""
    return {"correlation_id": pgprog.correlation_id(), "traceparent": pgprog.traceparent()}


asking = Namespace("asking")


@asking.init
def begin(step: Step[Any]) -> Intent[Any]:
    """Begin with nothing."""
    return Intent(state=0)


@asking.notify
def ask_blocking(step: Step[Any], dsn: str) -> None:
    """Ask from a thread, by a client and within the transaction of the step."""
    with Client(dsn) as client:
        client.submit("notify", "asking", step.process_id, name="note")
        with step.transaction() as connection:
            client.bind(connection).submit("notify", "asking", step.process_id, name="note")


@asking.notify
async def ask(step: Step[Any], dsn: str) -> None:
    """Ask from the loop."""
    async with pgprog.AsyncClient(dsn) as client:
        await client.submit("notify", "asking", step.process_id, name="note")


@asking.notify
def note(step: Step[Any]) -> Intent[Any]:
    """Note what travelled here."""
    return Intent(events=[told()])
