"""The handlers under test; they log for themselves what ran where, whatever was committed.

A step writes one event or two, counts itself and its events in the state, and answers with both
counts and with its *run*, a name that no other run of a handler has.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.chaos.journal import Journal

from pgprog import (
    Finish,
    Intent,
    Namespace,
    PermanentError,
    Reject,
    Remove,
    SetTimer,
    Step,
    TransientError,
)
from pgprog.engine import passing

if TYPE_CHECKING:
    from collections.abc import Iterator

Args = dict[str, Any]

NAME = "chaos"
INSERT = "insert into chaos_payments (task_id, process_id, run) values (%s, %s, %s)"

chaos = Namespace(
    NAME,
    step_timeout="20s",
    retry={"initial_interval": "50ms", "max_interval": "400ms", "max_attempts": 4},
    retry_by_type={"call": {"max_attempts": 2}},
)
# A run has too few rows that have ended for claims to be slow: these are slow sooner, or always.
if slow := os.environ.get("CHAOS_SLOW_SECONDS"):
    for constant in ("_SLOW_SECONDS", "_SLOW_SECONDS_OF_ONE"):
        setattr(passing, constant, float(slow))

_journal = Journal(os.environ.get("CHAOS_HANDLER_LOG", os.devnull))
_numbers = itertools.count(1)


@contextmanager
def _logged(step: Step[Any], args: Args) -> Iterator[str]:
    """Log the run of a handler; its end too, unless it never comes to it."""
    run = f"{os.getpid()}-{next(_numbers)}"
    _journal.write(
        "began",
        run=run,
        pid=os.getpid(),
        process=step.process_id,
        task=step.task_id,
        attempt=step.attempt,
        type=step.type,
        by=args.get("by"),
        seq=args.get("seq"),
    )
    try:
        yield run
    except BaseException as e:
        _journal.write("raised", run=run, error=type(e).__name__)
        raise
    _journal.write("returned", run=run)


def _intent(step: Step[Any], args: Args, run: str) -> Intent[Any, Any]:
    before = step.state or {"steps": 0, "events": 0}
    events = [
        {"task": step.task_id, "run": run, "by": args.get("by"), "seq": args.get("seq")}
        for _ in range(1 + (step.task_id % 3 == 0))
    ]
    state = {"steps": before["steps"] + 1, "events": before["events"] + len(events)}
    timers = []
    if args.get("do") == "timer":
        after = timedelta(milliseconds=step.task_id % 1500)
        timers.append(SetTimer(after=after, name=f"t{step.task_id}"))
    ends: dict[str, Finish | Remove] = {"finish": Finish(), "remove": Remove()}
    then = ends.get(args.get("do", ""))
    response = {**state, "task": step.task_id, "run": run}
    return Intent(state=state, events=events, response=response, timers=timers, then=then)


def _fail(step: Step[Any], args: Args) -> None:
    """Raise what the args ask for; a task that is queued anew with them may do better."""
    match args.get("do"):
        case _ if step.type == "timeout" and (step.task_id + step.attempt) % 31 == 0:
            raise PermanentError("a timer broke on purpose", code="purpose")
        case _ if step.type == "timeout" and (step.task_id + step.attempt) % 7 == 0:
            raise TransientError("a timer once more")
        case "reject":
            raise Reject({"task": step.task_id})
        case "break" if step.task_id % 2:
            raise PermanentError("broken on purpose", code="purpose")
        case "transient" if step.attempt == 1:
            raise TransientError("once more")
        case _:
            return


def _seconds(args: Args) -> float:
    return float(args.get("ms", 0)) / 1000


@chaos.processor
async def process(step: Step[Any], args: Args | None = None) -> Intent[Any, Any] | None:
    """Take every step that nothing below takes; timers come without args."""
    args = args or {"ms": 1}
    with _logged(step, args) as run:
        await asyncio.sleep(_seconds(args))
        _fail(step, args)
        return None if args.get("do") == "nothing" else _intent(step, args, run)


@chaos.call
async def pay(step: Step[Any], args: Args) -> Intent[Any, Any]:
    """Write into a table of the application, in the commit of the step."""
    with _logged(step, args) as run:
        async with step.transaction() as connection:
            await connection.execute(INSERT, (step.task_id, step.process_id, run))
            await asyncio.sleep(_seconds(args))
        _fail(step, args)
        return _intent(step, args, run)


@chaos.call
def pay_in_thread(step: Step[Any], args: Args) -> Intent[Any, Any]:
    """Do the same in a thread."""
    with _logged(step, args) as run:
        with step.transaction() as connection:
            connection.execute(INSERT, (step.task_id, step.process_id, run))
            time.sleep(_seconds(args))
        _fail(step, args)
        return _intent(step, args, run)


@chaos.notify
def note_in_thread(step: Step[Any], args: Args) -> Intent[Any, Any]:
    """Take a moment in a thread, which nobody can cancel."""
    with _logged(step, args) as run:
        time.sleep(_seconds(args))
        _fail(step, args)
        return _intent(step, args, run)
