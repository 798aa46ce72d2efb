"""A shop that is served while commands are typed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from pgprog import Engine, Finish, Intent, Namespace, PermanentError, Reject, SetTimer, Step
from pgprog.cli import main
from pgprog.config import WorkerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

_QUICK = WorkerConfig(poll_every=timedelta(milliseconds=50), stop_timeout=timedelta(seconds=1))


@dataclass(frozen=True)
class Terminal:
    """Types commands for one database."""

    dsn: str

    def type(self, *words: str, stdin: str | None = None) -> Result:
        """Return what a command printed, and its exit code; a traceback fails the test."""
        answer = CliRunner().invoke(main, [*words, "--dsn", self.dsn], input=stdin)
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        return answer

    def json(self, *words: str, code: int = 0) -> Any:
        """Return the one document that a command printed with --json."""
        answer = self.type(*words, "--json")
        assert answer.exit_code == code, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture
def terminal(db: str) -> Terminal:
    return Terminal(db)


@pytest.fixture
def orders() -> Namespace[Any]:
    """Orders keep their args as their state; each step writes one event."""
    namespace = Namespace("orders", numbers="decimal")

    @namespace.init
    def begin(step: Step[Any], args: Any = None) -> Intent[Any]:
        timer = SetTimer(after=timedelta(days=3), name="expiry")
        return Intent(state=args, events=[{"opened": args}], timers=[timer])

    @namespace.call("echo")
    def echo(step: Step[Any], args: Any = None) -> Intent[Any, Any]:
        return Intent(events=[{"echoed": args}], response=args)

    @namespace.call("refuse")
    def refuse(step: Step[Any], args: Any = None) -> None:
        raise Reject({"rest": 5})

    @namespace.call("break")
    def break_(step: Step[Any], args: Any = None) -> None:
        message = "no paper"
        raise RuntimeError(message)

    @namespace.call("finish")
    def finish(step: Step[Any], args: Any = None) -> Intent[Any]:
        return Intent(then=Finish())

    @namespace.notify("note")
    def note(step: Step[Any], args: Any = None) -> Intent[Any]:
        if args == "broken" and step.state == {"due": 10}:
            raise PermanentError("no ink")
        return Intent(events=[{"noted": args}])

    @namespace.repair("mend")
    def mend(step: Step[Any], args: Any = None) -> Intent[Any, Any]:
        if args is None:
            raise PermanentError("mend it with what?")
        return Intent(state=args, events=[{"mended": args}], response=args)

    return namespace


@pytest.fixture
def shop(db: str, orders: Namespace[Any]) -> Iterator[Any]:
    """The blocking client of an engine that serves orders; the order o-1 is open."""
    with Engine(db, [orders], worker=_QUICK) as engine:
        engine.init("orders", "o-1", {"due": 10})
        yield engine


@pytest.fixture
def closed_shop(db: str, orders: Namespace[Any]) -> None:
    """Orders are known and o-1 is open, but no worker lives: what is asked for waits."""
    with Engine(db, [orders], worker=_QUICK) as engine:
        engine.init("orders", "o-1", {"due": 10})
