"""Handlers that are dangerous to those who run beside them."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from pgprog import (
    AsyncClient,
    CriticalError,
    Intent,
    Namespace,
    PermanentError,
    Reject,
    SetTimer,
    Step,
    TransientError,
)
from pgprog.engine.runner import Runner

AT_ONCE = {"initial_interval": "10ms", "jitter": 0.0}


class Account(msgspec.Struct):
    """What is left."""

    rest: Decimal


apart = Namespace(
    "apart",
    state=Account,
    isolation="process",
    step_timeout="60s",
    retry=AT_ONCE,
    on_call_error="reject",
)
hasty = Namespace(
    "hasty",
    isolation="process",
    step_timeout="700ms",
    retry_by_type={"call": {**AT_ONCE, "max_attempts": 2}},
)
together = Namespace("together", step_timeout="60s", retry=AT_ONCE)


@apart.init
def open_account(step: Step[Account], args: Any) -> Intent[Account]:
    """Begin with something."""
    return Intent(state=Account(Decimal("10.50")), events=[{"opened": 1}])


@apart.call
def pay(step: Step[Account], amount: Decimal) -> Intent[Account, Decimal]:
    """Take some, exactly."""
    assert isinstance(step.state, Account)
    rest = step.state.rest - amount
    return Intent(state=Account(rest), events=[{"paid": amount}], response=rest)


@apart.call
async def look(step: Step[Account]) -> Intent[Account, dict[str, Any]]:
    """Change nothing, and tell what is seen."""
    assert step.deadline is not None
    events = await step.history()
    left = (step.deadline - datetime.now(UTC)).total_seconds()
    seen = {"events": len(events), "pid": os.getpid(), "attempt": step.attempt, "left": left}
    return Intent(response=seen)


@apart.call
def look_back(step: Step[Account]) -> Intent[Account, list[int]]:
    """Tell the ids of the events, from a thread."""
    return Intent(response=[event.event_id for event in step.history(limit=10)])


@apart.call
def write(step: Step[Account], number: int) -> Intent[Account, int]:
    """Write a row that is committed with the step."""
    with step.transaction() as connection:
        connection.execute("insert into public.written values (%s)", (number,))
    return Intent(events=[{"wrote": number}], response=number)


@apart.call
def write_at_the_gate(step: Step[Account], number: int) -> None:
    """Write one when a lock is free, once for each attempt."""
    with step.transaction() as connection:
        connection.execute("select pg_advisory_xact_lock_shared(4712)")
        connection.execute("insert into public.written values (%s)", (number + step.attempt,))


@apart.call
async def write_async(step: Step[Account], number: int) -> Intent[Account, int]:
    """Write one likewise."""
    async with step.transaction() as connection:
        await connection.execute("insert into public.written values (%s)", (number,))
    return Intent(events=[{"wrote": number}], response=number)


@apart.call
def write_and_refuse(step: Step[Account], number: int) -> None:
    """Write one, and say no."""
    with step.transaction() as connection:
        connection.execute("insert into public.written values (%s)", (number,))
    raise Reject({"number": number})


@apart.call
def write_twice(step: Step[Account], number: int) -> None:
    """Write what only the commit refuses."""
    with step.transaction() as connection:
        connection.execute("insert into public.deferred values (%s), (%s)", (number, number))


@apart.call
def fail(step: Step[Account], how: str) -> None:
    """Fail as is asked for."""
    match how:
        case "permanent":
            raise PermanentError("no such thing", code="E17")
        case "critical":
            raise CriticalError("stop all")
        case "odd":
            raise KeyError("gone")
        case _:
            raise StopIteration


@apart.notify
def flicker(step: Step[Account]) -> Intent[Account]:
    """Succeed at the second attempt."""
    if step.attempt == 1:
        raise TransientError("later")
    return Intent(events=[{"attempt": step.attempt}])


@apart.call
def plan(step: Step[Account]) -> Intent[Account]:
    """Set a timer that is due."""
    return Intent(timers=[SetTimer(at=datetime.now(UTC))])


@apart.timeout
def remind(step: Step[Account]) -> Intent[Account]:
    """Tell that it rang."""
    return Intent(events=[{"rang": True}])


@apart.call
async def ask_oneself(step: Step[Account], dsn: str) -> None:
    """Wait for one's own process, which cannot end well."""
    async with AsyncClient(dsn) as client:
        await client.call("apart", step.process_id, name="look")


@apart.call
def speak(step: Step[Account]) -> None:
    """Write to the log and to the standard output."""
    logging.getLogger("shop").warning("spoken from %s", step.process_id)
    print("printed", flush=False)


@apart.call
def die(step: Step[Account]) -> None:
    """Take the operating-system process along, in one way or another."""
    if step.attempt == 2:
        os._exit(3)
    ctypes.string_at(0)


@apart.call
def break_the_engine(step: Step[Account]) -> None:
    """Have the engine meet what nobody foresaw behind the step."""

    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    Runner._end = break_down  # type: ignore[assignment]


@apart.call
def search_on(step: Step[Account]) -> None:
    """Search for ever, without letting another thread run."""
    print(os.getpid(), flush=True)
    re.match(r"(a+)+$", "a" * 60 + "b")


@apart.call
def sleep_on(step: Step[Account]) -> None:
    """Sleep for a long time, at the first claim and the next."""
    print(os.getpid(), flush=True)
    time.sleep(1000)


@hasty.init
def begin(step: Step[Any]) -> Intent[Any]:
    """Begin with nothing."""
    return Intent(state=[])


@hasty.call
def spin(step: Step[Any]) -> Intent[Any, int]:
    """Never come back, at the first attempt."""
    while step.attempt == 1:
        pass
    return Intent(response=os.getpid())


@hasty.call
def search(step: Step[Any]) -> Intent[Any, int]:
    """Search for what takes for ever, without letting another thread run."""
    if step.attempt == 1:
        re.match(r"(a+)+$", "a" * 60 + "b")
    return Intent(response=os.getpid())


@hasty.call
async def hang(step: Step[Any]) -> Intent[Any, int]:
    """Hang, and take no notice of being cancelled."""
    while step.attempt == 1:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
    return Intent(response=os.getpid())


@together.init
async def join(step: Step[Any]) -> Intent[Any]:
    """Begin at zero."""
    return Intent(state=0)


@together.call
async def linger(step: Step[Any], seconds: float) -> Intent[Any, int]:
    """Take a while."""
    await asyncio.sleep(seconds)
    return Intent(state=step.state + 1, response=os.getpid())


@together.call
def crash(step: Step[Any]) -> None:
    """Take the operating-system process along, whichever it is."""
    ctypes.string_at(0)


@together.call
def crash_once(step: Step[Any]) -> Intent[Any, int]:
    """Take it along at the first attempt."""
    if step.attempt == 1:
        ctypes.string_at(0)
    return Intent(response=os.getpid())
