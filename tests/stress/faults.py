"""The faults: what is done to the stream, the standby, the server and this program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine, Sequence

    from tests.chaos.run import Server

# Shuffled and dealt again and again.
PACK = (
    *["stall the standby"] * 8,
    *["end the stream"] * 3,
    *["stop a sender"] * 2,
    *["hold up the loop"] * 2,
    "end a writer's session",
    "alter a publication",
    "restart PostgreSQL",
)
# For what is told and not visible: a stall, again and again, and hardly anything else.
NARROW = (*["stall the standby"] * 12, "end the stream", "stop a sender")
_SENDERS = """
select s.pid from pg_stat_replication as s
join pg_replication_slots as r on r.active_pid = s.pid where r.slot_type = 'logical'
order by random() limit 1"""
_END_SENDERS = """
select pg_terminate_backend(active_pid) from pg_replication_slots
where active_pid is not null and slot_type = 'logical'"""
_END_WRITER = """
select pg_terminate_backend(pid) from pg_stat_activity where pid = (
  select pid from pg_stat_activity
  where application_name = 'stress writer' order by random() limit 1)"""
_ALTERATIONS = (
    ("drop table pgprog_data.processes", "add table pgprog_data.processes"),
    ("set (publish = 'insert')", "set (publish = 'insert, update, delete, truncate')"),
    (
        "set table pgprog_data.processes where (process_id < 'a'), pgprog_data.timers",
        "set table pgprog_data.processes, pgprog_data.timers",
    ),
)


class Faults:
    """Does faults one by one, with pauses that *seed* decides; *done* counts them."""

    def __init__(
        self, server: Server, *, standby: int, seed: int, pause: float, done: Counter[str]
    ) -> None:
        self._server = server
        self._standby = standby
        self._chance = random.Random(seed)
        self._pause = pause
        self._done = done
        self._do: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "stall the standby": self._stall,
            "end the stream": self._end_stream,
            "stop a sender": self._stop_sender,
            "hold up the loop": self._hold_up,
            "end a writer's session": self._end_writer,
            "alter a publication": self._alter,
            "restart PostgreSQL": self._restart,
        }

    async def run(self, pack: Sequence[str]) -> None:
        """Deal packs for ever."""
        while True:
            dealt = [*pack]
            self._chance.shuffle(dealt)
            for kind in dealt:
                await asyncio.sleep(self._pause * self._chance.uniform(0.3, 1.7))
                await self._do[kind]()
                self._done[kind] += 1

    async def _stall(self) -> None:
        """Stall, and often end the stream meanwhile: a stream begins among what nobody sees."""
        with _stopped(self._standby):
            await asyncio.sleep(self._chance.uniform(0.05, 1.0) * self._chance.random())
            if self._chance.random() < 0.2:
                await self._end_stream()
                await asyncio.sleep(self._chance.uniform(0.05, 1.0))

    async def _end_stream(self) -> None:
        await asyncio.to_thread(self._ask, _END_SENDERS)

    async def _stop_sender(self) -> None:
        found = await asyncio.to_thread(self._ask, _SENDERS)
        if found:
            with _stopped(found[0][0]):
                await asyncio.sleep(self._chance.uniform(0.2, 2.0))

    async def _hold_up(self) -> None:
        time.sleep(self._chance.uniform(0.1, 1.3))  # noqa: ASYNC251 - that is the fault

    async def _end_writer(self) -> None:
        await asyncio.to_thread(self._ask, _END_WRITER)

    async def _alter(self) -> None:
        alterations = self._chance.choice(_ALTERATIONS)
        pause = self._chance.choice((0.0, 0.05, 0.5, 2.0))
        await asyncio.to_thread(self._alter_in, alterations, pause)

    def _alter_in(self, alterations: tuple[str, str], pause: float) -> None:
        there, back = alterations
        with psycopg.connect(self._server.dsn, autocommit=True) as connection:
            # What the standby holds up is in force for the stream, not yet for those who look.
            connection.execute("set synchronous_commit = local")
            connection.execute(f"alter publication pgprog_processes {there}".encode())
            time.sleep(pause)
            connection.execute(f"alter publication pgprog_processes {back}".encode())

    async def _restart(self) -> None:
        await asyncio.to_thread(self._server.restart)

    def _ask(self, query: str) -> list[Any]:
        with psycopg.connect(self._server.dsn, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()


class _stopped:  # noqa: N801 - a block
    """Stop a program for the length of a block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGCONT)
