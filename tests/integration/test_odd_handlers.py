"""Handlers that raise, return and leave behind what no handler should."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.folded import Folded

from pgprog import Intent, Namespace, PermanentError, Reject, SetTimer, Step, TransientError
from pgprog.engine import traces
from pgprog.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Panic(BaseException):
    """What extensions written in Rust raise: no `Exception`."""


class Unspeakable(Exception):  # noqa: N818 - what it is
    """An error that fails when it is asked what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Coded(Exception):  # noqa: N818 - what it is
    """An error of a library, with a code that is no text."""

    code: Mapping[str, int] = {"status": 503}


class Span(timedelta):
    """As pendulum has them: it divides by none but its own."""

    def __floordiv__(self, other: Any) -> Any:
        raise AttributeError("_to_microseconds")


class Moment(datetime):
    """As pendulum has them: what lies between two is a span of its own."""

    def __sub__(self, other: Any) -> Any:
        return Span(days=1)


class Unwritable(Mapping[str, int]):
    """What cannot be read when it is written as JSON."""

    def __getitem__(self, key: str) -> int:
        raise LookupError(key)

    def __iter__(self) -> Iterator[str]:
        return iter("a")

    def __len__(self) -> int:
        return 1


async def cancel_itself(step: Step[Any]) -> Intent[Any]:
    task = asyncio.current_task()
    assert task is not None
    async with step.transaction():
        task.cancel()
    return Intent(state="cancelled")


def raising(error: BaseException, *, colour: str) -> Callable[..., Any]:
    async def fail(step: Step[Any]) -> None:
        raise error

    def fail_blocking(step: Step[Any]) -> None:
        raise error

    return fail if colour == "async" else fail_blocking


@pytest.fixture
def odd() -> Namespace[Any]:
    namespace = Namespace("odd", on_call_error="reject", step_timeout="20s")

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0)

    @namespace.call
    def live(step: Step[Any]) -> Intent[Any, str]:
        return Intent(response="lives")

    return namespace


@pytest.mark.parametrize("colour", ["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [
        StopIteration(),
        StopAsyncIteration(),
        GeneratorExit(),
        KeyboardInterrupt(),
        SystemExit(1),
        asyncio.CancelledError(),
        Panic("in Rust"),
        Unspeakable(),
        Reject(Unwritable()),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_ends_its_step_and_frees_its_place(
    make_engine: Any, odd: Namespace[Any], error: BaseException, colour: str
) -> None:
    odd.call("fail")(raising(error, colour=colour))
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        for _ in range(2):
            with pytest.raises(StepFailed):
                await engine.call("odd", "o", name="fail", timeout=5)

        assert await engine.call("odd", "o", name="live", timeout=5) == "lives"


async def test_a_step_that_breaks_the_engine_runs_again_so_often_as_one_that_crashes_its_worker(
    make_engine: Any, odd: Namespace[Any], sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = traces.handled

    def break_down(held: Any, completion: Any) -> Any:
        if held.claimed.name == "unforeseen":
            raise ZeroDivisionError
        return handled(held, completion)

    odd.call("unforeseen")(lambda step: None)
    monkeypatch.setattr(traces, "handled", break_down)
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.init("odd", "other")
        with pytest.raises(StepFailed, match="zombie detected"):
            await engine.call("odd", "o", name="unforeseen", timeout=20)

        assert await engine.call("odd", "other", name="live", timeout=5) == "lives"
    ended = sql.execute("select attempt, crashes from pgprog_data.tasks where name = 'unforeseen'")
    assert ended.fetchall() == [(3, 3)]


async def test_a_step_for_which_there_is_no_thread_runs_once_later_and_burns_no_attempt(
    make_engine: Any, odd: Namespace[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    odd.call("count")(lambda step: attempts.append(step.attempt))
    start, refusals = threading.Thread.start, iter(range(5))

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("pgprog step") and next(refusals, None) is not None:
            msg = "can't start new thread"
            raise RuntimeError(msg)
        start(thread)

    monkeypatch.setattr("pgprog.engine.runner.UNAVAILABLE_SECONDS", 0.01)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.call("odd", "o", name="count", timeout=5)
        await engine.call("odd", "o", name="live", timeout=5)

    assert attempts == [1]


async def test_a_handler_that_cancels_its_own_task_fails_and_frees_its_place(
    make_engine: Any, odd: Namespace[Any]
) -> None:
    odd.call("cancel itself")(cancel_itself)
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        with pytest.raises(StepFailed, match="CancelledError"):
            await engine.call("odd", "o", name="cancel itself", timeout=5)

        assert await engine.call("odd", "o", name="live", timeout=5) == "lives"


@pytest.mark.parametrize("retry_after", [5, timedelta.max], ids=["a number", "for ever"])
async def test_a_retry_after_that_cannot_be_harms_no_other_step(
    make_engine: Any, odd: Namespace[Any], retry_after: Any
) -> None:
    fail = raising(TransientError("later", retry_after=retry_after), colour="async")
    odd.notify("fail")(fail)
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.init("odd", "other")
        await engine.notify("odd", "o", name="fail")
        while not [task for task in await engine.trace("odd", "o") if task.error]:
            await asyncio.sleep(0.01)

        assert await engine.call("odd", "other", name="live", timeout=5) == "lives"


@pytest.mark.parametrize(
    "error", [Coded("away"), PermanentError(code="x" * (2 << 20))], ids=["no text", "a long one"]
)
async def test_a_step_ends_whatever_the_code_of_its_error_is(
    make_engine: Any, odd: Namespace[Any], error: Exception
) -> None:
    odd.notify("fail")(raising(error, colour="async"))
    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.notify("odd", "o", name="fail")
        async with asyncio.timeout(5):
            while not [task for task in await engine.trace("odd", "o") if task.error]:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("remove", [None, "yes", 2])
async def test_a_timer_that_says_no_truth_of_remove_fails_its_own_step(
    make_engine: Any, odd: Namespace[Any], remove: Any
) -> None:
    @odd.call
    def wind(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=timedelta(days=1), remove=remove)])

    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        with pytest.raises(StepFailed, match=r"timers\[0\]\.remove"):
            await engine.call("odd", "o", name="wind", timeout=5)

        assert await engine.call("odd", "o", name="live", timeout=5) == "lives"


async def test_a_timer_may_be_due_at_an_instant_of_another_library(
    make_engine: Any, odd: Namespace[Any]
) -> None:
    due_at = Moment(2100, 1, 1, tzinfo=UTC)

    @odd.call
    def wind(step: Step[Any]) -> Intent[Any]:
        later = SetTimer(after=Span(days=3), name="later")
        return Intent(timers=[SetTimer(at=due_at), later])

    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.call("odd", "o", name="wind", timeout=5)
        process = await engine.get("odd", "o")

    assert process.timers[""] == datetime(2100, 1, 1, tzinfo=UTC)
    assert "later" in process.timers


async def test_timers_have_the_names_that_they_were_given_though_these_are_equal_to_others(
    make_engine: Any, odd: Namespace[Any]
) -> None:
    far = timedelta(days=3)

    @odd.call
    def wind(step: Step[Any]) -> Intent[Any]:
        return Intent(timers=[SetTimer(after=far, name=Folded(name)) for name in ("a", "A")])

    async with make_engine(odd) as engine:
        await engine.init("odd", "o")
        await engine.call("odd", "o", name="wind", timeout=5)
        process = await engine.get("odd", "o")

    assert sorted(process.timers) == ["A", "a"]
