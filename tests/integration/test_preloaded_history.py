"""Namespaces whose steps come with their newest events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgprog import Intent, Namespace, Step
from pgprog.errors import StepFailed
from pgprog.store.engine_store import EngineStore

if TYPE_CHECKING:
    import psycopg

    from pgprog.store.rows import Claimed


def noting(history: Any) -> Namespace[Any]:
    """Processes that answer with what step.history says, and note what they are told."""
    namespace = Namespace("notes", history=history)

    @namespace.init
    def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state={}, events=["began"])

    @namespace.call
    async def note(step: Step[Any], text: str) -> Intent[Any, Any]:
        told = [event.payload for event in await step.history()]
        return Intent(events=[text], response=told)

    @namespace.call
    def look(step: Step[Any], asked: dict[str, Any]) -> Intent[Any, Any]:
        return Intent(response=[(e.event_id, e.payload) for e in step.history(**asked)])

    @namespace.call
    async def change(step: Step[Any]) -> Intent[Any, Any]:
        [first, *_] = await step.history(limit=1, direction="backward")
        first.payload["seen"] = True
        [again, *_] = await step.history(limit=1, direction="backward")
        return Intent(response=again.payload)

    @namespace.call
    async def note_object(step: Step[Any]) -> Intent[Any]:
        return Intent(events=[{"a": 1}])

    return namespace


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What steps have read from the database."""
    made: list[Any] = []
    history = EngineStore.history

    async def spy(self: EngineStore, claimed: Claimed, **asked: Any) -> list[Any]:
        made.append(asked)
        return await history(self, claimed, **asked)

    monkeypatch.setattr(EngineStore, "history", spy)
    return made


async def test_a_chain_sees_what_its_steps_before_have_appended_without_a_read(
    make_engine: Any, reads: list[Any]
) -> None:
    async with make_engine(noting("full")) as engine:
        await engine.init("notes", "n")
        tasks = [
            await engine.submit("call", "notes", "n", {"text": str(n)}, name="note")
            for n in range(60)
        ]
        answers = [await task.wait() for task in tasks]
        events = await engine.history("notes", "n")

    texts = ["began", *(str(n) for n in range(60))]
    assert answers == [texts[: n + 1] for n in range(60)]
    assert [event.payload for event in events] == texts
    assert reads == []


async def test_what_lies_before_the_window_is_read(make_engine: Any, reads: list[Any]) -> None:
    async with make_engine(noting(2)) as engine:
        await engine.init("notes", "n")
        for n in range(3):
            await engine.call("notes", "n", {"text": str(n)}, name="note")
        reads.clear()
        asked: list[dict[str, Any]] = [
            {"limit": 2, "direction": "backward"},
            {"after": 2},
            {"after": 4},
            {"limit": 3, "direction": "backward"},
            {},
        ]
        found = [await engine.call("notes", "n", {"asked": each}, name="look") for each in asked]

    assert found == [
        [[4, "2"], [3, "1"]],
        [[3, "1"], [4, "2"]],
        [],
        [[4, "2"], [3, "1"], [2, "0"]],
        [[1, "began"], [2, "0"], [3, "1"], [4, "2"]],
    ]
    assert len(reads) == 2


async def test_queued_tasks_come_with_their_events_too(
    make_engine: Any, sql: Any, reads: list[Any]
) -> None:
    async with make_engine(noting(0)) as engine:
        await engine.init("notes", "n")
    sql.execute("update pgprog_data.namespaces set settings = settings || '{\"history\": 5}'")
    sql.execute("select pgprog.call('notes', 'n', '{\"text\": \"x\"}', name => 'note')")
    async with make_engine(noting(0)) as engine:
        while len(await engine.history("notes", "n")) < 2:
            pass

    assert reads == []


async def test_an_event_that_a_handler_changes_is_itself_at_the_next_look(
    make_engine: Any, reads: list[Any]
) -> None:
    async with make_engine(noting("full")) as engine:
        await engine.init("notes", "n")
        await engine.call("notes", "n", name="note_object")

        assert await engine.call("notes", "n", name="change") == {"a": 1}
    assert reads == []


async def test_a_namespace_without_preload_reads_its_history(
    make_engine: Any, reads: list[Any]
) -> None:
    async with make_engine(noting(0)) as engine:
        await engine.init("notes", "n")

        assert await engine.call("notes", "n", {"text": "x"}, name="note") == ["began"]
    assert len(reads) == 1


async def test_a_bad_limit_is_refused_with_a_preload_too(make_engine: Any) -> None:
    async with make_engine(noting(5)) as engine:
        await engine.init("notes", "n")
        task = await engine.submit("call", "notes", "n", {"asked": {"limit": -1}}, name="look")

        with pytest.raises(Exception, match="limit is -1, 0 to 100000 are allowed"):
            await task.wait()


async def test_an_event_that_is_nested_too_deeply_fails_the_steps_that_read_it_alone(
    make_engine: Any, sql: psycopg.Connection[Any]
) -> None:
    async with make_engine(noting(5)) as engine:
        await engine.init("notes", "n")
        sql.execute(
            "select pgprog.put(jsonb_set(jsonb_set(pgprog.get('notes', 'n', 1),"
            " '{process_id}', '\"deep\"'), '{history,0,payload}', %s::jsonb))",
            ("[" * 3000 + "]" * 3000,),
        )
        with pytest.raises(StepFailed, match="cannot be read"):
            await engine.call("notes", "deep", {"text": "x"}, name="note", timeout=5)

        assert await engine.call("notes", "n", {"text": "x"}, name="note", timeout=5) == ["began"]
