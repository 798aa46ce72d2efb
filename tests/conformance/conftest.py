"""Plays scenarios: what handlers reply, what is asked, and what is there then, all of it data.

A scenario is a mapping of

``in``       the namespace, by its name in namespaces.yaml; `scenes` when left out
``replies``  one for each step in the order of the steps: `step` is the type that it must be,
             `sees` what the handler must find, `reads` the histories it must read; then what it
             does: `until` (a gate that is opened), `raises`, or the parts of an intent
``when``     what is done from outside, one after another; see the methods of `Play`
``then``     what `get` and `trace` show in the end; see `Play.do_then`

No time passes by sleeping: a timer comes due when `do: due` says so, a step ends when its gate is
opened, and everything else is waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Protocol

import psycopg
import pytest
import yaml
from psycopg import sql

from pgprog import Engine, Finish, Intent, Namespace, Remove, SetTimer, UnsetTimer, errors
from pgprog.config import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog import Client, Step

HERE = Path(__file__).parent
_QUICK = WorkerConfig(poll_every=timedelta(milliseconds=50), stop_timeout=timedelta(seconds=1))
_THENS: dict[str, Finish | Remove] = {"finish": Finish(), "remove": Remove()}


class CodedError(errors.TransientError):
    """A failure of the world that carries a code."""

    code = "E17"


_RAISED: dict[str, Any] = {
    **vars(errors), "ValueError": ValueError, "KeyError": KeyError, "CodedError": CodedError
}  # fmt: skip
_INTENT = ("events", "state", "metadata", "response")
_numbers = itertools.count(1)


class Script:
    """What the handlers of one process reply, and what they saw."""

    def __init__(self, replies: list[dict[str, Any]]) -> None:
        self.replies = replies
        self.begun: list[str] = []
        self.ended = 0
        self.faults: list[str] = []
        self.gates: dict[str, threading.Event] = {}

    async def reply(self, step: Step[Any]) -> Intent[Any, Any]:
        number = len(self.begun)
        self.begun.append(str(step.type))
        if number >= len(self.replies):
            self.faults.append(f"step {number + 1} is a {step.type} that nobody expects")
            return Intent()
        reply = self.replies[number]
        try:
            await self._check(step, reply, where=f"step {number + 1}, {step.type}")
            if "until" in reply:
                gate = self.gates.setdefault(reply["until"], threading.Event())
                while not gate.is_set():
                    await asyncio.sleep(0.01)
            if "raises" in reply:
                raise raised(*reply["raises"])
            return intent_of(reply)
        finally:
            self.ended += 1

    async def _check(self, step: Step[Any], reply: dict[str, Any], *, where: str) -> None:
        self.expect(str(step.type), reply["step"], of=f"{where}: type")
        for name, expected in reply.get("sees", {}).items():
            self.expect(getattr(step, name), expected, of=f"{where}: {name}")
        for read in reply.get("reads", ()):
            asked = {name: value for name, value in read.items() if name != "gives"}
            events = await step.history(**asked)
            self.expect([e.event_id for e in events], read["gives"], of=f"{where}: {asked}")
            self.expect([e for e in events if not e.task_id], [], of=f"{where}: without a task")

    def expect(self, found: Any, expected: Any, *, of: str) -> None:
        if found != expected:
            self.faults.append(f"{of}: {found!r} instead of {expected!r}")


def raised(kind: str, message: Any = "", retry_after: float | None = None) -> Exception:
    if retry_after is not None:
        return errors.TransientError(message, retry_after=_seconds(retry_after))
    error: Exception = _RAISED[kind](message)
    return error


def intent_of(reply: dict[str, Any]) -> Intent[Any, Any]:
    """Return the intent of a reply; `timers` are seconds from now, null takes a timer away."""
    timers: list[SetTimer | UnsetTimer] = [
        UnsetTimer(name) if seconds is None else SetTimer(after=_seconds(seconds), name=name)
        for name, seconds in reply.get("timers", {}).items()
    ]
    if "remove_after" in reply:
        timers.append(SetTimer(after=_seconds(reply["remove_after"]), remove=True))
    parts = {name: reply[name] for name in _INTENT if name in reply}
    return Intent(**parts, timers=timers, then=_THENS.get(reply.get("then", "")))


def _seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


class Queued:
    """A task that was queued by SQL, waited for as any other."""

    def __init__(self, client: Client, task_id: int) -> None:
        self.client = client
        self.task_id = task_id

    def wait(self, *, timeout: float) -> Any:
        return self.client.wait(self.task_id, timeout=timeout)


class Stage:
    """An engine that serves the namespaces of namespaces.yaml; handlers reply by their scripts."""

    def __init__(self, client: Client, connection: psycopg.Connection[Any]) -> None:
        self.client = client
        self.sql = connection
        self.scripts: dict[str, Script] = {}


class Play:
    """One process and what is done to it."""

    def __init__(self, stage: Stage, scenario: dict[str, Any]) -> None:
        self.client = stage.client
        self.sql = stage.sql
        self.namespace = scenario.get("in", "scenes")
        self.process_id = f"p{next(_numbers)}"
        self.names = (self.namespace, self.process_id)
        self.script = stage.scripts[self.process_id] = Script(scenario.get("replies", []))
        self.tasks: dict[str, Any] = {}
        self.caught: BaseException | None = None
        self.scenario = scenario

    def run(self) -> None:
        for action in self.scenario["when"]:
            self.do(**action)
        self.do_then(**self.scenario.get("then", {}))
        assert not self.script.faults

    def do(self, do: str, **options: Any) -> None:
        outcome = getattr(self, f"do_{do}")
        raises, says = options.pop("raises", None), options.pop("says", None)
        if raises is None:
            outcome(**options)
            return
        with pytest.raises(_RAISED[raises], match=says) as caught:
            outcome(**options)
        self.caught = caught.value

    # ---- What is asked; with `as` it is queued under that name, without it is waited for ----

    def do_init(self, **options: Any) -> None:
        self._ask("init", **options)

    def do_call(self, **options: Any) -> None:
        self._ask("call", **options)

    def do_notify(self, **options: Any) -> None:
        self._ask("notify", **options)

    def do_repair(self, **options: Any) -> None:
        self._ask("repair", **options)

    def _ask(self, type_: str, **options: Any) -> None:
        task_name, gives = options.pop("as", None), options.pop("gives", None)
        args, later = options.pop("args", None), options.pop("later", False)
        if later:
            options["run_at"] = datetime.now(UTC) + timedelta(hours=1)
        task = self.client.submit(type_, *self.names, args, **options)
        if task_name is None:
            assert task.wait(timeout=20) == gives
        else:
            self.tasks[task_name] = task

    def do_answer(self, of: str, gives: Any = None) -> None:
        assert self.tasks[of].wait(timeout=20) == gives

    def do_simple_repair(self, runs: bool = True, **options: Any) -> None:
        """Mend it; with *runs* what failed is run again, which `as` does not wait for."""
        task_name = options.pop("as", None)
        task = self.client.simple_repair(*self.names, **options)
        assert (task is not None) is runs
        if task is not None and task_name is None:
            task.wait(timeout=20)
        self.tasks[str(task_name)] = task

    def do_put(self, **process: Any) -> None:
        """Import what is given; the seconds of `timers` and `at` count from now."""
        now = datetime.now(UTC)
        timers = {n: now + _seconds(s) for n, s in process.pop("timers", {}).items()}
        history = [
            {"event_id": n, "at": now, "task_id": 1, "payload": payload}
            for n, payload in enumerate(process.pop("history", []), 1)
        ]
        self.client.put(
            {
                "namespace": self.namespace, "process_id": self.process_id, "status": "running",
                **process, "timers": timers, "history": history,
            }
        )  # fmt: skip

    def do_remove(self, gives: bool = True) -> None:
        assert self.client.remove(*self.names) is gives

    def do_cancel(self, of: str, gives: bool = True) -> None:
        assert self.client.cancel(self._task_id(of)) is gives

    def do_get(self, **expected: Any) -> None:
        """Compare a snapshot; `absent: true` where there is none."""
        found = self.client.get(*self.names, max_events=1000)
        if found is None or "absent" in expected:
            assert (found is None) is expected.get("absent", False)
            return
        for name, value in expected.items():
            assert (name, self._part(found, name)) == (name, value)

    def do_history(self, gives: list[int], **asked: Any) -> None:
        assert [e.event_id for e in self.client.history(*self.names, **asked)] == gives

    def do_explain(self, **expected: Any) -> None:
        found = self.client.explain(*self.names)
        assert {name: getattr(found, name) for name in expected} == expected

    def do_pause(self) -> None:
        self.sql.execute("select pgprog.pause(%s, 'stock-taking')", (self.namespace,))

    def do_resume(self) -> None:
        self.sql.execute("select pgprog.resume(%s)", (self.namespace,))

    def note(self, name: str, *, of: str) -> None:
        """Call a task of the process by a name; *of* is `timer` and its name."""
        self.tasks[name] = Queued(self.client, self._task_id(of))

    # ---- What happens by itself ----

    def do_lost(self, times: int, **options: Any) -> None:
        """Ask, or let the timer come due, and lose the step so often with workers that began it."""
        type_ = options.get("type", "call")
        worker = (
            "select pgprog_engine.register_worker('ghost', array[%s], array['{}'::jsonb], '1 hour')"
        )
        with self.sql.transaction():
            if type_ == "timeout":
                task_id = self._task_id("timer")
                self.do_due()
            else:
                ask = sql.SQL("select {}(%s, %s)").format(sql.Identifier("pgprog", type_))
                task_id = self._one(ask, self.names)
            for _ in range(times):
                ghost = self._one(worker, (self.namespace,))
                self.sql.execute("select pgprog_engine.claim(%s, 1)", (ghost,))
                self.sql.execute(
                    "select pgprog_engine.renew_worker(%s, '1h', %s)", (ghost, [task_id])
                )
                assert self._one("select pgprog_engine.collect_zombies(%s, 1)", (ghost,)) == 1
        self.tasks[options["as"]] = Queued(self.client, task_id)

    def do_due(self, timer: str = "") -> None:
        """Let the time of a timer come: it was due a moment ago."""
        changed = self.sql.execute(
            "update pgprog_data.timers set due_at = clock_timestamp() - interval '1 ms'"
            " where namespace = %s and process_id = %s and name = %s",
            (*self.names, timer),
        ).rowcount
        assert changed == 1, f"there is no timer {timer!r}"

    def do_retry(self) -> None:
        """Let the time of the next attempt come."""
        changed = self.sql.execute(
            "update pgprog_data.queue set due_at = clock_timestamp() - interval '1 ms'"
            " where namespace = %s and process_id = %s and status = 'h'",
            self.names,
        ).rowcount
        assert changed == 1, "nothing waits for a retry"

    def do_open(self, gate: str) -> None:
        self.script.gates.setdefault(gate, threading.Event()).set()

    def do_wait(self, status: str | None = None, steps: int = 0, begun: int = 0) -> None:
        """Return once so many steps have begun or ended, and the process has the status.

        The time-out of the test ends a wait in vain; a fault of a handler ends it at once.
        """
        while not self.script.faults:
            ready = len(self.script.begun) >= begun and self.script.ended >= steps
            is_quiet, found = self._is_quiet(), self._status()  # later: what ended is committed
            if ready and status in (None, found) and (begun or is_quiet):
                return
        assert not self.script.faults

    def do_then(self, **expected: Any) -> None:
        """Compare: `steps` (types of all steps), `trace` ([type, status] of all tasks), the rest
        as `do: get` does.
        """
        steps, trace = expected.pop("steps", None), expected.pop("trace", None)
        if steps is not None:
            assert self.script.begun == steps
        if trace is not None:
            tasks = self.client.trace(*self.names)
            assert [[str(t.type), str(t.status)] for t in tasks] == trace
        if expected:
            self.do_get(**expected)

    # ---- Looking ----

    def _status(self) -> str:
        found = self.client.get(*self.names)
        return "absent" if found is None else str(found.status)

    def _is_quiet(self) -> bool:
        """Whether no task of the process runs: what its steps did is committed."""
        running = (
            "select count(*) from pgprog.tasks"
            " where namespace = %s and process_id = %s and status = 'running'"
        )
        return self._one(running, self.names) == 0

    def _one(self, statement: LiteralString | sql.Composed, values: tuple[Any, ...]) -> int:
        row = self.sql.execute(statement, values).fetchone()
        assert row is not None
        return int(row[0])

    def _task_id(self, name: str) -> int:
        if name.startswith("timer"):
            return self._one(
                "select task_id from pgprog.timers where namespace = %s and process_id = %s"
                " and name = %s",
                (*self.names, name.removeprefix("timer").strip()),
            )
        return int(self.tasks[name].task_id)

    def _part(self, found: Any, name: str) -> Any:
        match name:
            case "history":
                return [event.payload for event in found.history]
            case "timers":
                return sorted(found.timers)
            case "corrupted_by":
                by = {t.task_id: str(t.type) for t in self.client.trace(*self.names)}
                return None if found.corrupted_by is None else by[found.corrupted_by]
            case "metadata":
                return None if found.metadata is None else dict(found.metadata)
            case _:
                value = getattr(found, name)
                return str(value) if name.endswith("status") and value is not None else value


class Player(Protocol):
    """Makes the play of a scenario, ready to run."""

    def __call__(self, scenario: dict[str, Any]) -> Play: ...


@pytest.fixture(scope="module")
def stage(module_db: str) -> Iterator[Stage]:
    """One engine for all scenarios of a module: each has a process of its own."""
    settings = yaml.safe_load((HERE / "namespaces.yaml").read_text())
    scripts: dict[str, Script] = {}

    async def reply(step: Step[Any], args: Any = None) -> Intent[Any, Any]:
        return await scripts[step.process_id].reply(step)

    async def typed_reply(step: Step[Any], args: int = 0) -> Intent[Any, Any]:
        return await scripts[step.process_id].reply(step)

    namespaces = [Namespace(name, **given) for name, given in settings.items()]
    for namespace in namespaces:
        namespace.processor(typed_reply if namespace.name == "typed" else reply)
    with (
        psycopg.connect(module_db, autocommit=True) as connection,
        Engine(module_db, namespaces, worker=_QUICK) as client,
    ):
        made = Stage(client, connection)
        made.scripts = scripts
        yield made


@pytest.fixture
def play(stage: Stage) -> Iterator[Player]:
    plays: list[Play] = []

    def make(scenario: dict[str, Any]) -> Play:
        plays.append(Play(stage, scenario))
        return plays[-1]

    yield make
    for each in plays:  # what a failed test has left must not run on beside the next
        for gate in each.script.gates.values():
            gate.set()
