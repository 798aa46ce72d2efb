"""What travels with tasks and what the log says of steps, wherever handlers run."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import pgprog
from pgprog import Engine, logs
from pgprog.errors import PgprogError, StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PROGRAMS = Path(__file__).parent / "programs"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONTEXT = {"traceparent": TRACE, "correlation_id": "req-1"}
PLACES = ["in_loop", "in_thread", pytest.param("in_child", marks=pytest.mark.slow)]
FAULTS = ["reject", "odd", "no intent", "no JSON", "no event", "too big"]


class Logged:
    """What this program and its children have logged, as JSON."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured
        self.text = ""

    def lines(self, **fields: object) -> list[dict[str, Any]]:
        """Return the lines with these fields."""
        self.text += self._captured.readouterr().err
        lines = [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]
        return [line for line in lines if fields.items() <= line.items()]


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[Logged]:
    root, ours = logging.getLogger(), logging.getLogger("pgprog")
    before = list(root.handlers), ours.level
    with open(2, "w", buffering=1, closefd=False) as stream:
        logs.configure(format="json", level="debug", stream=stream)
        yield Logged(capfd)
    root.handlers, ours.level = before


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handlers of programs/travelling.py, in a module that children can import."""
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module("travelling")


async def events_of(engine: Engine, namespace: str, count: int) -> list[Any]:
    """Return the payloads of the events of process p, once there are so many."""
    async with asyncio.timeout(20):
        while len(events := await engine.history(namespace, "p")) < count:
            await asyncio.sleep(0.01)
    return [event.payload for event in events]


@pytest.mark.parametrize("place", PLACES)
async def test_what_a_handler_logs_says_of_which_step(
    make_engine: Any, program: Any, logged: Logged, place: str
) -> None:
    async with make_engine(getattr(program, place)) as engine:
        task = await engine.submit("init", place, "p", context=CONTEXT)
        await task.wait(timeout=20)

    [line] = logged.lines(event=f"seen in {place}", type="init")
    [started] = logged.lines(event="worker_started")
    assert list(line)[3:] == [
        "logger", "namespace", "process_id", "task_id", "type", "attempt", "worker_id",
        "trace_id", "correlation_id",
    ]  # fmt: skip
    assert line["logger"] == "shop"
    assert (line["namespace"], line["process_id"], line["attempt"]) == (place, "p", 1)
    assert (line["task_id"], line["worker_id"]) == (task.task_id, started["worker_id"])
    assert (line["trace_id"], line["correlation_id"]) == (TRACE[3:35], "req-1")


@pytest.mark.parametrize("place", PLACES)
async def test_what_travels_reaches_a_step_its_timers_and_their_retries(
    make_engine: Any, program: Any, logged: Logged, sql: psycopg.Connection[Any], place: str
) -> None:
    async with make_engine(getattr(program, place)) as engine:
        sql.execute(
            "select pgprog.init(%s, 'p', context => %s::jsonb)", (place, json.dumps(CONTEXT))
        )
        [_, _, in_timer] = await events_of(engine, place, 3)

    answer = sql.execute(
        "select response from pgprog.trace(%s, 'p') where type = 'init'", (place,)
    ).fetchone()
    assert answer is not None
    assert {key: answer[0][key] for key in CONTEXT} == CONTEXT
    assert in_timer == CONTEXT
    [failed] = logged.lines(event="step_failed")
    assert (failed["type"], failed["name"], failed["attempt"]) == ("timeout", "soon", 1)
    assert (failed["trace_id"], failed["correlation_id"]) == (TRACE[3:35], "req-1")
    assert [line["attempt"] for line in logged.lines(event=f"seen in {place}", name="soon")] == [
        1,
        2,
    ]


@pytest.mark.parametrize("name", ["ask", "ask_blocking"])
async def test_what_a_step_asks_for_goes_on_with_what_travels(
    make_engine: Any, program: Any, db: str, name: str
) -> None:
    async with make_engine(program.asking) as engine:
        await engine.init(program.begin, "p")
        with pgprog.carry(**CONTEXT):
            await engine.submit("notify", "asking", "p", {"dsn": db}, name=name)
        count = 2 if name == "ask_blocking" else 1

        assert await events_of(engine, "asking", count) == [CONTEXT] * count


async def test_a_chain_of_steps_hands_nothing_from_one_to_the_next(
    make_engine: Any, program: Any
) -> None:
    async with make_engine(program.asking) as engine:
        await engine.init(program.begin, "p")
        requests = [
            pgprog.Request(
                "notify", "asking", "p", name="note",
                context={"correlation_id": str(n)} if n % 2 else None,
            )
            for n in range(10)
        ]  # fmt: skip
        await engine.submit_many(requests)
        events = await events_of(engine, "asking", 10)

    ids = [event["correlation_id"] for event in events]
    assert ids == [str(n) if n % 2 else None for n in range(10)]


async def test_garbage_from_sql_is_warned_of_and_loses_no_task(
    make_engine: Any, program: Any, logged: Logged, sql: psycopg.Connection[Any]
) -> None:
    garbage = {"traceparent": program.SECRET, "correlation_id": 17, "tenant": 5}
    async with make_engine(program.asking) as engine:
        await engine.init(program.begin, "p")
        sql.execute(
            "select pgprog.notify('asking', 'p', name => 'note', context => %s::jsonb)",
            (json.dumps(garbage),),
        )
        [event] = await events_of(engine, "asking", 1)

    assert event == {"correlation_id": None, "traceparent": None}
    lines = logged.lines(event="trace_context_ignored", process_id="p", level="warning")
    assert [line["detail"] for line in lines] == [
        "traceparent is not as W3C Trace Context has it",
        "correlation_id is no text",
    ]
    assert program.SECRET not in logged.text


async def test_a_context_that_is_nested_too_deeply_ends_its_own_task_and_takes_no_place(
    make_engine: Any, program: Any, sql: psycopg.Connection[Any]
) -> None:
    deep = '{"correlation_id": "c", "deep": %s}' % ("[" * 3000 + "]" * 3000)
    async with make_engine(program.asking) as engine:
        await engine.init(program.begin, "p")
        asked = "select pgprog.notify('asking', 'p', name => 'note', context => %s::jsonb)"
        [[task_id]] = sql.execute(asked, (deep,)).fetchall()

        with pytest.raises(StepFailed, match="recursion"):
            await engine.wait(task_id, timeout=5)

    assert engine._worker._runner.busy == 0


@pytest.mark.parametrize("place", PLACES)
async def test_no_payload_is_logged_however_a_step_ends(
    make_engine: Any, program: Any, logged: Logged, sql: psycopg.Connection[Any], place: str
) -> None:
    secret = {"is": program.SECRET}
    async with make_engine(getattr(program, place)) as engine:
        await engine.init(place, "p", secret, context=secret)
        for how in FAULTS:
            with pytest.raises(PgprogError) as caught:
                await engine.call(place, "p", {"how": how, **secret}, name="fail", timeout=20)
            logging.getLogger("shop").warning("caller", exc_info=caught.value)
        process = await engine.get(place, "p", max_events=10)
        await engine.put(pgprog.Process(**{**vars(process), "process_id": "q"}))
        await events_of(engine, place, 3)

    failed = logged.lines(event="step_failed", type="call")
    assert len(failed) >= len(FAULTS) - 2
    assert len(logged.lines(event="step_rejected", type="call")) == 1
    assert any("exception" in line for line in failed)
    assert process.state == secret
    assert program.SECRET not in logged.text
