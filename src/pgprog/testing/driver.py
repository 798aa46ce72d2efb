"""An engine on the twin: it runs what is due, and lets time pass when the test says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pgprog.engine import decide
from pgprog.engine.events import events_of
from pgprog.errors import ConfigError
from pgprog.testing.steps import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pgprog.model import Direction, Event
    from pgprog.namespace import Namespace
    from pgprog.store.rows import Claimed, Completion, Ended
    from pgprog.testing.access import Connect
    from pgprog.testing.steps import Played
    from pgprog.testing.twin import Twin

# The middle of the jitter: a retry comes when the policy says.
_NO_JITTER = 0.5
_MOST_STEPS = 10_000


class Killed(BaseException):
    """Stands for the death of the worker while a handler runs: no handler should catch it."""


@dataclass(slots=True)
class _Fate:
    """At which of the boundaries inside its handler a step is killed, None for none of them."""

    kill_at: int | None = None
    reached: int = 0


class Driver:
    """Runs the steps of *namespaces* one after another, each at the moment when it is due.

    With *crash* each step is killed at each of its boundaries, and run again, before it may end.
    What handlers raised is in *errors*, by task.
    """

    def __init__(
        self,
        twin: Twin,
        namespaces: Sequence[Namespace[Any]],
        *,
        connect: Connect | None,
        crash: bool,
    ) -> None:
        self.errors: dict[int, BaseException] = {}
        self.kills = 0
        self._twin = twin
        self._namespaces = {namespace.name: namespace for namespace in namespaces}
        self._crash = crash
        self._fates: list[_Fate] = []  # of the steps that run: a handler may wait for another's
        self._stage = Stage(connect=connect, reached=self._reach)
        for namespace in namespaces:
            twin.create_namespace(namespace.name, namespace.settings)
        self._worker = twin.register_worker("test", [*self._namespaces])

    def close(self) -> None:
        """End the loop of the async handlers."""
        self._stage.close()

    def settle(self) -> None:
        """Run all that is due now; what a handler asks for waits until its step has ended."""
        if not self._fates:
            self._run_due()

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until *instant*; what comes due on the way runs when it is due.

        Raises:
            ConfigError: A handler called this, or steps go on and on without time passing.
        """
        if self._fates:
            msg = "a handler moves the clock"
            raise ConfigError(msg, hint="advance it in the test")
        self._run_due()
        while (due := self._twin.next_due()) is not None and self._twin.now < due <= instant:
            self._pass_to(due)
            self._run_due()
        self._pass_to(instant)

    def wait(self, task_id: int, *, seconds: float) -> Ended | None:
        """Return the end of a task, letting time pass for it; None when it takes longer."""
        until = self._twin.now + timedelta(seconds=seconds)
        self._run_due()
        while not (ended := self._twin.results([task_id])):
            due = self._twin.next_due()
            if due is None or not self._twin.now < due <= until:
                self._pass_to(until)
                return None
            self._pass_to(due)
            self._run_due()
        return ended[0]

    def _pass_to(self, instant: datetime) -> None:
        self._twin.advance_to(instant)
        self._twin.maintain()
        self._twin.measure_queues()

    def _run_due(self) -> None:
        for _ in range(_MOST_STEPS):
            claimed = self._twin.claim(self._worker, 1).tasks
            if not claimed:
                return
            self._run(claimed[0])
        msg = f"{_MOST_STEPS} steps ran at {self._twin.now.isoformat()}, and more are due"
        raise ConfigError(msg, hint="does a handler set a timer that is due at once, without end?")

    def _run(self, claimed: Claimed) -> None:
        played, completion = self._attempt(claimed)
        if played is not None and self._twin.world.living(claimed.incarnation) is None:
            played.undo(Killed())  # its handler removed the process
        elif played is not None:
            completion = self._committed(played, claimed)
        self._twin.complete(self._worker, [completion], [False])

    def _committed(self, played: Played, claimed: Claimed) -> Completion:
        """Commit what a step did on its connection; one that refuses fails the step."""
        try:
            played.commit()
        except Exception as e:  # noqa: BLE001 - the connection is the application's
            self.errors[claimed.task_id] = e
            settings = self._namespaces[claimed.namespace].settings
            return decide.after_data_fault(claimed, e, settings=settings)
        return played.completion

    def _attempt(self, claimed: Claimed) -> tuple[Played | None, Completion]:
        """Return how a step ends, in crash mode after it was killed everywhere before."""
        boundary = 1
        while True:
            fate = _Fate(kill_at=boundary if self._crash else None)
            self._fates.append(fate)
            try:
                played, completion = self._outcome(claimed)
            except Killed:
                boundary += 1
                self.kills += 1
                continue
            finally:
                self._fates.remove(fate)
            if not self._crash or boundary > fate.reached + 1:
                return played, completion
            # The last boundary: all was done but the commit.
            if played is not None:
                played.undo(Killed())
            boundary += 1
            self.kills += 1

    def _outcome(self, claimed: Claimed) -> tuple[Played | None, Completion]:
        namespace = self._namespaces[claimed.namespace]

        def read(*, after: int | None, limit: int, direction: Direction) -> tuple[Event, ...]:
            rows = self._twin.history(
                claimed.namespace, claimed.process_id, after, limit, direction
            )
            return events_of(rows, namespace=namespace)

        try:
            played = self._stage.play(claimed, namespace=namespace, read=read, now=self._twin.now)
        except (Exception, asyncio.CancelledError) as e:  # noqa: BLE001 - application code
            self.errors[claimed.task_id] = e
            settings = namespace.settings
            return None, decide.after_failure(claimed, e, settings=settings, random=_NO_JITTER)
        return played, played.completion

    def _reach(self) -> None:
        fate = self._fates[-1]
        fate.reached += 1
        if fate.reached == fate.kill_at:
            raise Killed
