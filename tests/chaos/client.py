"""A client program: asks, in many lanes at once, and logs what it asked and what it was told.

python -m tests.chaos.client DSN LOG NAME SEED RATE [engine]

It asks until SIGTERM, then waits for what it still has to hear.  The lines of its log: `asked`,
then one of `acked` (a task stands for it), `refused`, `unknown` (the answer was lost) and
`rolled_back`; `told` is the end of the task as the client heard of it, `read` what it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from tests.chaos.handlers import NAME, chaos
from tests.chaos.journal import Journal

from pgprog import AsyncClient, Engine
from pgprog.config import WorkerConfig
from pgprog.errors import (
    CallTimeout,
    Overloaded,
    PgprogError,
    Rejected,
    StepFailed,
    StoreUnavailable,
    TaskCancelled,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

PROCESSES = 80
LANES = 40
TWINS_EVERY = 0.4
LAST_WAIT = 90.0
# The share of submitted tasks that are waited for: each wait costs two round trips of its own.
_WAITING = 0.4
WORKER = WorkerConfig(
    concurrency=20,
    poll_every=timedelta(milliseconds=200),
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(milliseconds=400),
)

_CALLS = ("pay", "pay_in_thread", "add")
_DOINGS = {
    "": 74, "timer": 6, "transient": 4, "reject": 3, "nothing": 2, "break": 1, "finish": 0.5,
    "remove": 0.3,
}  # fmt: skip


class Caller:
    """What one client program does; *name* is its own, never used again."""

    def __init__(self, dsn: str, journal: Journal, *, name: str, seed: int, rate: float) -> None:
        self.stop = asyncio.Event()
        self._dsn = dsn
        self._journal = journal
        self._name = name
        self._random = random.Random(seed)
        self._rate = rate
        self._next_at = time.monotonic()
        self._count = 0
        self._give_up_at: float | None = None
        self._keyed: list[tuple[str, str, str, str, dict[str, Any]]] = []
        self._waits: set[asyncio.Task[None]] = set()

    async def run(self, client: AsyncClient) -> None:
        self._client = client
        for number in range(PROCESSES):
            if number % 4 == self._random.randrange(4):
                await self._begin(f"p{number}")
        async with asyncio.TaskGroup() as lanes:
            for number in range(LANES):
                lanes.create_task(self._lane(f"{self._name}/{number}"))
            lanes.create_task(self._twins())
            await self.stop.wait()
            self._give_up_at = time.monotonic() + LAST_WAIT
        while self._waits:
            await asyncio.wait([*self._waits])
        self._journal.write("closed", client=self._name)

    # ---- What it does ----

    async def _lane(self, by: str) -> None:
        """Ask one thing after the other: a later seq is asked when the earlier one stands."""
        seq = 0
        kinds = ["burst", "call", "transaction", "keyed", "again", "later", "read", "remove"]
        weights = [48, 14, 9, 9, 4, 2, 5, 0.7]
        while not self.stop.is_set():
            process = f"p{self._random.randrange(PROCESSES)}"
            kind = self._random.choices(kinds, weights)[0]
            for _ in range(self._random.choice((1, 1, 2, 4)) if kind == "burst" else 1):
                await self._pace()
                seq += 1
                await self._do(kind, process, self._args(by, seq))

    async def _do(self, kind: str, process: str, args: dict[str, Any]) -> None:
        type_, name = self._what()
        match kind:
            case "burst":
                await self._submit(type_, process, args, name=name)
            case "call":
                await self._call(process, args)
            case "transaction":
                await self._transaction(process, args)
            case "keyed":
                key = f"{args['by']} {args['seq']}"
                times = self._random.choice((1, 2))
                tasks = await asyncio.gather(
                    *(self._submit(type_, process, args, name=name, key=key) for _ in range(times))
                )
                if any(tasks):
                    self._keyed.append((key, type_, name, process, args))
            case "again":
                await self._again()
            case "later":
                await self._later(process, args)
            case "read":
                await self._read(process)
            case _:
                await self._plain("remove", process, self._client.remove(NAME, process))
                await self._begin(process)

    def _what(self) -> tuple[str, str]:
        if self._random.random() < 0.3:
            return "notify", self._random.choice(("note", "note_in_thread"))
        return "call", self._random.choices(_CALLS, (1, 0.4, 5))[0]

    def _args(self, by: str, seq: int) -> dict[str, Any]:
        does = self._random.choices([*_DOINGS], [*_DOINGS.values()])[0]
        chance = self._random.random()
        slow = 200 * self._random.random() if chance < 0.08 else 15 * self._random.random()
        return {"by": by, "seq": seq, "do": does, "ms": round(slow, 1)}

    async def _twins(self) -> None:
        """Ask under the same key at the same moment as every other client."""
        while not self.stop.is_set():
            tick = int(time.time() / TWINS_EVERY) + 1
            await asyncio.sleep(tick * TWINS_EVERY - time.time())
            process, args = f"p{tick % PROCESSES}", {"do": "", "ms": tick % 30, "tick": tick}
            await self._submit("call", process, args, name="add", key=f"twin {tick}")

    async def _again(self) -> None:
        """Repeat an old key; or use it for something else, which must be refused."""
        if not self._keyed:
            return
        key, type_, name, process, args = self._random.choice(self._keyed)
        if self._random.random() < 0.3:
            args = {**args, "other": True}
        await self._submit(type_, process, args, name=name, key=key)

    async def _later(self, process: str, args: dict[str, Any]) -> None:
        """Ask for later, and cancel it at times."""
        after = 2.5 * self._random.random()
        task = await self._submit("call", process, args, name="add", after=after)
        if task is not None and self._random.random() < 0.5:
            await self._plain("cancel", process, self._client.cancel(task), task=task)

    async def _transaction(self, process: str, args: dict[str, Any]) -> None:
        """Ask in a transaction of the application, which may be rolled back."""
        op = self._asked("transaction", process, None, args)
        task, is_sent = None, False
        try:
            async with await psycopg.AsyncConnection.connect(self._dsn, connect_timeout=5) as own:
                await own.execute("insert into chaos_orders (op) values (%s)", (op,))
                task = await self._client.bind(own).submit("call", NAME, process, args, name="add")
                await own.execute("update chaos_orders set task = %s where op = %s", (task, op))
                await asyncio.sleep(0.03 * self._random.random())
                if self._random.random() < 0.25:
                    await own.rollback()
                    self._journal.write("rolled_back", op=op, task=task)
                    return
                is_sent = True
                await own.commit()
        except PgprogError as e:
            self._journal.write("refused", op=op, error=type(e).__name__)
            await self._mend(e, process)
        except psycopg.Error as e:
            what = "unknown" if is_sent else "rolled_back"
            self._journal.write(what, op=op, task=task, error=type(e).__name__)
        else:
            self._acked(op, int(task))

    async def _read(self, process: str) -> None:
        with contextlib.suppress(StoreUnavailable, Overloaded):
            seen = await self._client.get(NAME, process, max_events=10, direction="backward")
            if seen is None:
                return
            self._journal.write(
                "read",
                process=process,
                incarnation=seen.incarnation,
                version=seen.version,
                last_event_id=seen.last_event_id,
                state=seen.state,
                events=[(e.event_id, e.task_id, _run_of(e.payload)) for e in seen.history],
            )

    # ---- How it asks ----

    async def _submit(
        self,
        type_: str,
        process: str,
        args: dict[str, Any],
        *,
        name: str | None = None,
        key: str | None = None,
        after: float | None = None,
    ) -> int | None:
        """Submit, and hear of the end in the background; return the task."""
        run_at = None if after is None else datetime.now(UTC) + timedelta(seconds=after)
        op = self._asked(type_, process, key, args, later=after)
        try:
            task = await self._client.submit(
                type_, NAME, process, args,
                name=name, idempotency_key=key, run_at=run_at, timeout=15,
            )  # fmt: skip
        except PgprogError as e:
            await self._not_taken(e, op, process)
            return None
        waits = key is not None or self._random.random() < _WAITING
        self._acked(op, task.task_id, waits=waits)
        return int(task.task_id)

    async def _call(self, process: str, args: dict[str, Any]) -> None:
        """Call and wait in one; the answer tells which task it was."""
        op = self._asked("call", process, None, args)
        try:
            response = await self._client.call(NAME, process, args, name="add", timeout=15)
        except CallTimeout as e:
            self._acked(op, e.task_id)
        except Rejected as e:
            task = e.payload["task"] if isinstance(e.payload, dict) else None
            self._told_at_once(op, task, status="finished", rejected=e.payload)
        except StepFailed as e:
            self._told_at_once(op, e.task_id, **_failed(e))
        except TaskCancelled:
            self._journal.write("refused", op=op, error="TaskCancelled")
        except PgprogError as e:
            await self._not_taken(e, op, process)
        else:
            if response is not None:
                self._told_at_once(op, response["task"], status="finished", response=response)

    async def _begin(self, process: str) -> None:
        does = "reject" if self._random.random() < 0.05 else ""
        does = "break" if self._random.random() < 0.05 else does
        await self._submit("init", process, {"do": does, "ms": 2})

    async def _plain(
        self, what: str, process: str, asking: Awaitable[Any], *, task: int | None = None
    ) -> None:
        """Do what has no task to wait for, and log its answer."""
        op = self._asked(what, process, None, {})
        try:
            answer = await asking
        except PgprogError as e:
            self._journal.write("refused", op=op, error=type(e).__name__)
        else:
            new = getattr(answer, "task_id", None)
            self._journal.write("did", op=op, did=what, task=task or new, answer=str(answer))

    async def _not_taken(self, error: PgprogError, op: str, process: str) -> None:
        what = "unknown" if isinstance(error, StoreUnavailable) else "refused"
        self._journal.write(what, op=op, error=type(error).__name__)
        await self._mend(error, process)

    async def _mend(self, error: PgprogError, process: str) -> None:
        """Make a process usable again that refused."""
        if self.stop.is_set():
            return
        match type(error).__name__:
            case "ProcessInError" if self._random.random() < 0.5:
                await self._submit("repair", process, {"do": "", "ms": 3})
            case "ProcessInError":
                repairing = self._client.simple_repair(NAME, process)
                await self._plain("simple_repair", process, repairing)
            case "ProcessFinished":
                await self._plain("remove", process, self._client.remove(NAME, process))
                await self._begin(process)
            case "ProcessNotFound":
                await self._begin(process)
            case _:
                return

    # ---- What it logs ----

    def _asked(
        self,
        type_: str,
        process: str,
        key: str | None,
        args: dict[str, Any],
        *,
        later: float | None = None,
    ) -> str:
        self._count += 1
        op = f"{self._name}:{self._count}"
        self._journal.write(
            "asked",
            op=op,
            client=self._name,
            type=type_,
            process=process,
            key=key,
            other=args.get("other"),
            by=None if later is not None else args.get("by"),
            seq=args.get("seq"),
            later=later,
        )
        return op

    def _acked(self, op: str, task: int, *, waits: bool = True) -> None:
        self._journal.write("acked", op=op, task=task, waits=waits)
        if not waits:
            return
        waiting = asyncio.create_task(self._wait(op, task))
        self._waits.add(waiting)
        waiting.add_done_callback(self._waits.discard)

    def _told_at_once(self, op: str, task: int | None, **end: object) -> None:
        self._journal.write("acked", op=op, task=task, waits=True)
        self._journal.write("told", op=op, task=task, **end)

    async def _wait(self, op: str, task: int) -> None:
        while self._give_up_at is None or time.monotonic() < self._give_up_at:
            try:
                end = await self._end(task)
            except (CallTimeout, StoreUnavailable, Overloaded):
                await asyncio.sleep(0.05)
            except PgprogError as e:
                self._journal.write("told", op=op, task=task, status=type(e).__name__)
                return
            else:
                self._journal.write("told", op=op, task=task, **end)
                return

    async def _end(self, task: int) -> dict[str, object]:
        try:
            response = await self._client.wait(task, timeout=60)
        except Rejected as e:
            return {"status": "finished", "rejected": e.payload}
        except StepFailed as e:
            return _failed(e)
        except TaskCancelled as e:
            return {"status": "cancelled", "cause": e.cause}
        return {"status": "finished", "response": response}

    async def _pace(self) -> None:
        """Wait for the next turn at the rate; what was missed for long is forgotten."""
        now = time.monotonic()
        self._next_at = max(self._next_at, now - 1) + self._random.expovariate(self._rate)
        await asyncio.sleep(max(0.0, self._next_at - now))


def _failed(error: StepFailed) -> dict[str, object]:
    return {
        "status": "error",
        "error": {
            "error_type": error.error_type,
            "detail": error.detail,
            "attempt": error.attempt,
        },
    }


def _run_of(payload: object) -> object:
    return payload.get("run") if isinstance(payload, dict) else None


async def main(dsn: str, log: str, name: str, seed: int, rate: float, *, engine: bool) -> None:
    caller = Caller(dsn, Journal(log), name=name, seed=seed, rate=rate)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.stop.set)
    while not caller.stop.is_set():
        client = Engine(dsn, [chaos], worker=WORKER) if engine else AsyncClient(dsn)
        async with AsyncExitStack() as opened:
            try:
                await opened.enter_async_context(client)
            except StoreUnavailable:
                await asyncio.sleep(0.2)
                continue
            await caller.run(client)
            return


if __name__ == "__main__":
    _, dsn_, log_, name_, seed_, rate_, *rest = sys.argv
    asyncio.run(main(dsn_, log_, name_, int(seed_), float(rate_), engine="engine" in rest))
