"""Writes processes by plain SQL: python -m tests.stress.writer DSN SEED NAMESPACE PROCESSES.

Prints what it does, a JSON array a line: `["began", process_id, mark, rank, time]` before, then
`["committed", …]`, `["failed", …]`, `["freed", …]`, and `["said", time]` in between.  Each process
has one task that writes it, so that what happens to it has an order, and one that sets its free
timer without a lock on it.  Ends at the end of its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from tests.stress.oracle import gone, rank

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SQL = Path(__file__).with_name("writer.sql")
_MARK = "select mark, version, has_timer from stress.look(%s, %s)"
_PAUSE_SECONDS = 0.04
_TICK_SECONDS = 0.05
_LANES = 6


Statement: TypeAlias = tuple[str, tuple[object, ...]]


class Unknown(Exception):  # noqa: N818 - what happened
    """The outcome of a transaction was lost with its connection."""


class Link:
    """A connection that is opened again when it was lost."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def fetch(self, *statements: Statement, commit: bool = True) -> Any:
        """Run statements in one transaction and return the first row of the last.

        Raises:
            Unknown: The connection was lost.
        """
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(
                    self._dsn, application_name="stress writer", connect_timeout=5
                )
            cursor = self._connection.cursor()
            for statement, values in statements:
                await cursor.execute(statement.encode(), values)
            row = await cursor.fetchone() if cursor.description else None
            await (self._connection.commit() if commit else self._connection.rollback())
        except psycopg.OperationalError as e:
            if self._connection is not None:
                await self._connection.close()
            self._connection = None
            raise Unknown from e
        return row


@dataclass
class Author:
    """Writes one process."""

    link: Link
    namespace: str
    process_id: str
    chance: random.Random
    life: int = 0
    number: int = 0
    state_number: int = 0
    has_timer: bool = False
    tries: int = 0

    async def write(self) -> None:
        """Do one thing."""
        if not self.life or self._is_gone:
            await self._begin_life()
        elif (dice := self.chance.random()) < 0.04:
            await self._try(
                gone(self.life), [("select pgprog.remove(%s, %s)", self._names)], self._end
            )
        elif dice < 0.25 and self.has_timer:
            timer = [("select stress.start_timer(%s, %s)", self._names)]
            await self._try(rank(self.life, self.number, 1), timer, self._lose_timer)
        else:
            await self._step()

    _is_gone = True

    @property
    def _names(self) -> tuple[str, str]:
        return self.namespace, self.process_id

    def _mark(self) -> str:
        self.tries += 1
        return f"{self.process_id}/{self.life}/{self.tries}"

    async def _begin_life(self) -> None:
        self.life += 1
        mark = self._mark()
        process = {
            "namespace": self.namespace, "process_id": self.process_id, "status": "running",
            **self._content(mark, number=0, state_number=0),
            "timers": {"step": "2100-01-01T00:00:00Z"},
        }  # fmt: skip
        put = [("select pgprog.put(%s)", (json.dumps(process),))]
        await self._try(rank(self.life, 0), put, self._be_born, mark=mark)
        if self._is_gone:
            self.life -= 1

    async def _step(self) -> None:
        added, mark = self.chance.choice((1, 1, 2, 3)), self._mark()
        number = self.number + added
        keeps = self.chance.random() < 0.3  # the stream leaves out a big state that stays
        state_number = self.state_number if keeps else number
        content = self._content(mark, number=number, state_number=state_number)
        step: list[Statement] = [
            (
                "select stress.step(%s, %s, %s, %s, %s)",
                (
                    *self._names, added, json.dumps(content["metadata"]),
                    None if keeps else json.dumps(content["state"]),
                ),
            )
        ]  # fmt: skip
        if self.chance.random() < 0.05:
            step[:0] = [("savepoint s", ()), *step, ("rollback to savepoint s", ())]

        def take() -> None:
            self.number, self.state_number, self.has_timer = number, state_number, True

        is_kept = self.chance.random() > 0.05
        await self._try(rank(self.life, number), step, take, mark=mark, commit=is_kept)

    def _content(self, mark: str, *, number: int, state_number: int) -> dict[str, Any]:
        filling = self.chance.randbytes(self.chance.choice((40, 40, 300, 2500))).hex()
        head = {"life": self.life, "n": number, "state_n": state_number, "mark": mark}
        return {
            "metadata": head,
            "state": {"life": self.life, "n": state_number, "mark": mark, "filling": filling},
        }

    async def _try(
        self,
        rank: int,
        statements: Sequence[Statement],
        take: Callable[[], None],
        *,
        mark: str = "",
        commit: bool = True,
    ) -> None:
        told = mark or self._mark()
        say("began", self.process_id, told, rank, time.monotonic())
        try:
            row = await self.link.fetch(*statements, commit=commit)
            is_done, version = commit, row[0] if commit and row else 0
        except Unknown:
            is_done, version = await self._find_out(rank, mark)
        if is_done:
            take()
            say("committed", self.process_id, told, time.monotonic(), int(version or 0))
        else:
            say("failed", self.process_id, told, time.monotonic())

    async def _find_out(self, rank: int, mark: str) -> tuple[bool, int]:
        while True:
            with contextlib.suppress(Unknown):
                row = await self.link.fetch((_MARK, self._names))
                if mark:
                    return row is not None and row[0] == mark, 0 if row is None else row[1]
                return (row is None, 0) if rank == gone(self.life) else (not row[2], 0)
            await asyncio.sleep(0.05)

    def _be_born(self) -> None:
        self._is_gone, self.number, self.state_number, self.has_timer = False, 0, 0, True

    def _end(self) -> None:
        self._is_gone = True

    def _lose_timer(self) -> None:
        self.has_timer = False


async def write_free(link: Link, namespace: str, process_id: str, number: int) -> None:
    """Set the free timer of a process; where that is unknown, a later number says it."""
    with contextlib.suppress(Unknown):
        statement = "select stress.set_free(%s, %s, %s)"
        row = await link.fetch((statement, (namespace, process_id, number)))
        if row and row[0] is not None:
            say("freed", process_id, row[0], number, time.monotonic())


def say(*what: object) -> None:
    """Tell the program that checks."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _write_on(authors: Sequence[Author], chance: random.Random) -> None:
    while True:
        await _one_of(authors, chance).write()
        await asyncio.sleep(chance.random() * _PAUSE_SECONDS)


async def _free_on(link: Link, authors: Sequence[Author], chance: random.Random) -> None:
    numbers: Counter[str] = Counter()
    while True:
        author = _one_of(authors, chance)
        numbers[author.process_id] += 1
        await write_free(link, author.namespace, author.process_id, numbers[author.process_id])
        await asyncio.sleep(chance.random() * _PAUSE_SECONDS)


def _one_of(authors: Sequence[Author], chance: random.Random) -> Author:
    """Return one, the first much oftener than the last."""
    return authors[min(int(chance.paretovariate(1.0)) - 1, len(authors) - 1)]


async def _tick() -> None:
    while True:
        say("said", time.monotonic())
        await asyncio.sleep(_TICK_SECONDS)


async def main(dsn: str, seed: int, namespace: str, processes: int) -> None:
    """Write until the input ends."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    acts = [_tick()]
    for lane in range(_LANES):
        chance = random.Random(seed * 1000 + lane)
        link = Link(dsn)
        mine = [Author(link, namespace, f"p-{n}", chance) for n in range(lane, processes, _LANES)]
        acts += [_write_on(mine, chance), _free_on(Link(dsn), mine, chance)]
    tasks = [asyncio.create_task(act) for act in acts]
    await asyncio.wait([asyncio.create_task(ended.wait()), *tasks], return_when="FIRST_COMPLETED")
    for task in tasks:
        if task.done():
            task.result()  # why it ended, which none should
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
