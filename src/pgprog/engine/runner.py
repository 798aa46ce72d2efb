"""Runs the handlers of claimed tasks, at most so many at once."""

from __future__ import annotations

import asyncio
import functools
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.engine import decide, traces
from pgprog.engine.attempt import NoThread
from pgprog.engine.failures import fields_of, log_failure
from pgprog.engine.places import UNAVAILABLE_SECONDS
from pgprog.engine.quick import QuickSteps
from pgprog.engine.sealed import let_others_try, sealed_part
from pgprog.engine.turns import Turns
from pgprog.engine.within_task import within_task
from pgprog.store.rows import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine

    from pgprog.engine.attempt import Attempt, Attempts
    from pgprog.engine.children import Apart
    from pgprog.engine.holdings import Held, Holdings
    from pgprog.engine.surroundings import Endings, Reporter
    from pgprog.store.rows import Completion

log = logs.get(__name__)

# Completions may pile up to so many steps a place before no more is claimed.
_ENDING_FACTOR = 3
# Handlers begin so many at once beside another namespace.  A step of that comes back to the loop
# some thirty times until its answer is out, and each time it waits for these.
_AT_ONCE = 8
# What a step that is cancelled may take to clean up.
_ABANDON_SECONDS = 1.0


class Runner:
    """Starts what is claimed, *concurrency* handlers at once; what is over waits for its turn.

    What *apart* takes runs in a child process.  A step that was lost with a worker before and that
    no child process can run waits until nothing else runs here, and nothing starts until it has
    ended: it takes nobody down but the worker.  *on_free* is called whenever a place becomes free.

    Where there are several namespaces they take turns, and only some handlers begin in a turn of
    the loop: what comes from the database meanwhile is for one of the others, perhaps.
    """

    def __init__(
        self,
        attempts: Attempts,
        *,
        concurrency: int,
        holdings: Holdings,
        lease: Reporter,
        endings: Endings,
        on_free: Callable[[], None],
        apart: Apart | None = None,
    ) -> None:
        self._attempts = attempts
        self._apart = apart
        self._concurrency = concurrency
        self._holdings = holdings
        self._lease = lease
        self._endings = endings
        self._on_free = on_free
        self._running = 0
        self._begun_at_once = 0
        self._stragglers = 0
        self._waiting: Turns[Held] = Turns()
        self._lone: deque[Held] = deque()
        self._has_lone = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._quick = QuickSteps(
            self._run,
            waits=lambda held: attempts.learn(held.claimed, is_quick=False),
            stepped=self._stepped,
        )

    @property
    def room(self) -> int:
        """How many more tasks could start at once, while completions do not pile up."""
        return max(0, min(self.places, _ENDING_FACTOR * self._concurrency - len(self._holdings)))

    @property
    def places(self) -> int:
        """How many more tasks could start at once."""
        return max(0, self.turns - len(self._waiting))

    @property
    def turns(self) -> int:
        """How many places the next claims may have by turns, though others wait for them, too."""
        if self._has_lone:
            return 0
        # Quick steps will have ended when a claim is answered.
        return max(0, self._concurrency - self._running + len(self._quick))

    @property
    def waiting(self) -> int:
        """How many claims wait for a place."""
        return len(self._waiting) + len(self._lone)

    @property
    def full(self) -> Collection[str]:
        """The namespaces whose steps would wait for a child process, with no end in sight."""
        return () if self._apart is None else self._apart.full

    @property
    def busy(self) -> int:
        """How many handlers run."""
        return self._running

    @property
    def stragglers(self) -> int:
        """How many threads of handlers go on whose steps are over."""
        return self._stragglers

    @property
    def concurrency(self) -> int:
        """How many handlers may run at once."""
        return self._concurrency

    def take(self, held: Held) -> None:
        """Run the handler of a claim as soon as a place is free, unless it is given up."""
        if held.is_dropped:
            return
        if held.claimed.alone and self._apart is not None and not self._apart.takes(held.claimed):
            self._has_lone = True
            self._lone.append(held)
            self._fill()
        elif self._may_launch():
            self._launch(held)
        else:
            self._waiting.add(held.claimed.namespace, held)

    def give_back_waiting(self) -> None:
        """Leave to other workers what waits for a place here.

        What is to run alone keeps it closed: else it might find no worker that comes to rest.
        """
        while self.waiting:
            held = self._waiting.take() if self._waiting else self._lone.popleft()
            if not held.is_dropped:
                self._endings.give_back(held)

    def limit(self, concurrency: int) -> None:
        """Run at most so many at once from here on."""
        self._concurrency = concurrency

    async def wait_idle(self) -> None:
        """Return when no handler runs and none waits, stragglers in threads apart."""
        while tasks := self._tasks | self._quick.tasks:
            await asyncio.wait(tasks)

    async def abandon(self) -> int:
        """Cancel all that still runs, and return how many steps do not care."""
        steps = self._tasks | self._quick.tasks
        for step in steps:
            step.cancel()
        if not steps:
            return 0
        _, left = await asyncio.wait(steps, timeout=_ABANDON_SECONDS)
        return len(left)

    def _may_launch(self) -> bool:
        if self._has_lone or self._running >= self._concurrency:
            return False
        return self._begun_at_once < _AT_ONCE or not self._holdings.is_shared

    def _launch(self, held: Held) -> None:
        if not self._begun_at_once:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._begun_at_once += 1
        self._running += 1
        if self._apart is not None and self._apart.takes(held.claimed):
            self._spawn(held, self._run_apart(self._apart, held))
            return
        is_quick = held.claimed.attempt == 1 and self._attempts.is_quick(held.claimed)
        if is_quick:
            self._quick.add(held)
        elif is_quick is None:
            self._spawn(held, self._try(held))
        else:
            self._spawn(held, self._run(held))

    def _spawn(self, held: Held, step: Coroutine[Any, Any, None]) -> None:
        """Give a step a task of its own."""
        held.step = asyncio.create_task(step)
        self._tasks.add(held.step)
        held.step.add_done_callback(functools.partial(self._ended, held))

    def _ended(self, held: Held, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._stepped(held, asyncio.CancelledError() if task.cancelled() else task.exception())

    def _stepped(self, held: Held, error: BaseException | None) -> None:
        """Leave no claim behind, whatever ended its step."""
        if not held.runs:
            self._free()
        if is_ours := isinstance(error, Exception):
            log.error("step_broke", **fields_of(held.claimed), error=error)
        if error is not None and not held.is_dropped:
            (self._endings.broke if is_ours else self._endings.give_back)(held)

    async def _try(self, held: Held) -> None:
        """Run a handler of which nobody knows whether it waits."""
        learn = functools.partial(self._attempts.learn, held.claimed)
        await within_task(self._run(held), on_wait=functools.partial(learn, is_quick=False))
        learn(is_quick=True)

    async def _run_apart(self, apart: Apart, held: Held) -> None:
        try:
            await apart.run(held)
        finally:
            if held.runs:
                self._free()

    async def _run(self, held: Held) -> None:
        traces.enter(held, worker_id=self._lease.worker_id)
        attempt = self._attempts.make(held.claimed)
        held.runs = True  # what was given up before its start never comes here
        try:
            if held.claimed.attempt > 1:
                # Its worker may have died of it: this time a crash must count, however quick.
                await self._lease.report_begun()
                await traces.link(held, self._attempts.first_trace)
            completion = traces.handled(held, await self._outcome(attempt, held))
        finally:
            attempt.access.close()
            if (straggler := attempt.straggler) is None:
                self._free()
            else:
                self._stragglers += 1
                straggler.add_done_callback(lambda late: self._straggled(attempt, late))
                self._fill()
                self._on_free()  # a lone step may have ended: its thread holds up nobody else
        if held.is_dropped:
            await self._undo(attempt)
        elif completion is None:
            await self._undo(attempt)
            self._endings.give_back(held)
        else:
            await self._end(attempt, held, completion)

    async def _outcome(self, attempt: Attempt, held: Held) -> Completion | None:
        """Return how the step ends, None where it was interrupted by no fault of its handler."""
        claimed = held.claimed
        namespace = attempt.namespace
        if not self._may_begin(held):
            return None
        if (sealed := sealed_part(claimed)) is not None:
            await let_others_try(sealed)
            return None
        try:
            returned = await attempt.run()
            if attempt.handler is None:
                return None
            return decide.after_success(
                claimed, returned, namespace=namespace, handler=attempt.handler
            )
        except NoThread as e:
            log.error("no_thread", detail=str(e))  # noqa: TRY400 - the message says it all
            await asyncio.sleep(UNAVAILABLE_SECONDS)
            return None
        except asyncio.CancelledError as e:
            if held.is_dropped:
                return None
            error: BaseException = e
        except BaseException as e:  # noqa: BLE001 - application code: anything may come
            if attempt.access.is_interrupted:
                return None
            error = e
        failed = decide.after_failure(
            claimed, error, settings=namespace.settings, random=random.random()
        )
        log_failure(error, failed)
        return failed

    def _may_begin(self, held: Held) -> bool:
        """Look at the clock once more: we may have stood still since the claim."""
        self._lease.check()
        return not held.is_dropped

    async def _end(self, attempt: Attempt, held: Held, completion: Completion) -> None:
        straggler = attempt.straggler
        if straggler is not None and completion.outcome is Outcome.RETRY:
            # The next attempt must not run beside the thread of this one.
            await asyncio.wait([straggler])
            if held.is_dropped:
                return
        if straggler is None and (transaction := attempt.access.open_transaction()) is not None:
            if completion.outcome is Outcome.FINISHED:
                held.ends = True
                await self._endings.commit(held, completion, transaction)
                return
            await transaction.rollback()
        held.ends = True
        self._endings.add(held, completion)

    async def _undo(self, attempt: Attempt) -> None:
        transaction = attempt.access.open_transaction()
        if transaction is not None and attempt.straggler is None:
            await transaction.rollback()

    def _straggled(self, attempt: Attempt, late: asyncio.Future[object]) -> None:
        """Clean up behind a thread that ended too late."""
        if not late.cancelled():
            late.exception()  # seen, or asyncio would print it
        attempt.straggler = None
        undoing = asyncio.create_task(self._undo(attempt))
        self._tasks.add(undoing)
        undoing.add_done_callback(self._tasks.discard)
        self._stragglers -= 1
        self._free()

    def _free(self) -> None:
        self._running -= 1
        self._fill()
        self._on_free()

    def _next_turn(self) -> None:
        self._begun_at_once = 0
        self._fill()

    def _fill(self) -> None:
        """Start what waits for its turn, as far as there is room."""
        if self._has_lone:
            if self._running > self._stragglers:
                return
            while self._lone:
                held = self._lone.popleft()
                if not held.is_dropped:
                    self._launch(held)
                    return
            self._has_lone = False
        while self._waiting and self._may_launch():
            held = self._waiting.take()
            if not held.is_dropped:
                self._launch(held)
