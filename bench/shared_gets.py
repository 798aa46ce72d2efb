"""How long does a read over the Unix socket of a shared reader take, and what does it cost?

The reader is `pgprog worker --only reader`, in a process of its own; the client is this one.
Processes have a state of 1 kB; one caller reads one after the other by `await client.get`, or many
callers do, each as soon as he has his answer.  All is kept and warm, and nothing changes meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from bench.cached_gets import LOAD
from bench.measure import Meter, cpu_of_family
from bench.ping_pong import repeated, taken
from bench.question import Question
from pgprog import AsyncClient
from pgprog.config import CacheSettings, NamespaceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Sample, Sizes
    from bench.server import Arena

_ROOT = Path(__file__).parents[1]
_NAMESPACE: Final = "shared"
_SETTINGS: Final = NamespaceSettings(
    cache=CacheSettings(enabled=True, max_lag=timedelta(seconds=10))
)
_MOST_PROCESSES = 1000
_PATIENCE_SECONDS = 30.0


def _ask(arena: Arena, sizes: Sizes, *, callers: int) -> Sample:
    processes = min(sizes.many_processes, _MOST_PROCESSES)
    with arena.database() as dsn, tempfile.TemporaryDirectory() as directory:
        with psycopg.connect(dsn, autocommit=True) as connection:
            create = "select pgprog_engine._create_namespace(%s, %s)"
            connection.execute(create, (_NAMESPACE, json.dumps(_SETTINGS.to_json())))
            connection.execute(LOAD, {"namespace": _NAMESPACE, "processes": processes})
        with _reader(dsn, Path(directory)) as (socket, pid):
            reads = _Reads(dsn, socket, processes)
            return asyncio.run(reads.measured(pid, callers=callers, seconds=sizes.seconds))


@contextmanager
def _reader(dsn: str, directory: Path) -> Iterator[tuple[str, int]]:
    """Run a shared reader while the block lasts; give its socket and its process."""
    socket, file = str(directory / "reader.sock"), directory / "pgprog.yaml"
    namespaces = {_NAMESPACE: {"handlers": "nobody:imports"}}  # its settings are the database's
    config = {"dsn": dsn, "reader": {"socket": socket}, "namespaces": namespaces}
    file.write_text(json.dumps(config))
    command = [sys.executable, "-m", "pgprog", "worker", "--config", str(file), "--only", "reader"]
    program = subprocess.Popen([*command, "--log-level", "error"], cwd=_ROOT)
    try:
        yield socket, program.pid
    finally:
        program.terminate()
        program.wait()


class _Reads:
    """Reads of so many processes, and how many of them were answered from memory."""

    def __init__(self, dsn: str, socket: str, processes: int) -> None:
        self._client = AsyncClient(dsn, reader=socket)
        self._dsn = dsn
        self._ids = [f"o-{number + 1}" for number in range(processes)]
        self._hits = 0

    async def measured(self, reader: int, *, callers: int, seconds: float) -> Sample:
        async with self._client:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not await self._all_kept():  # noqa: ASYNC110 - nothing tells it
                    await asyncio.sleep(0.01)
            self._hits, cpu = 0, cpu_of_family(reader)
            meter = Meter(self._dsn)
            with meter:
                times = await repeated(self._get, callers=callers, seconds=seconds)
            cpu = cpu_of_family(reader) - cpu
        figures = {
            **taken(times),
            "hits of 100": 100 * self._hits / len(times),
            "us of the reader": 1e6 * cpu / len(times),
        }
        return meter.sample(len(times), figures=figures)

    async def _all_kept(self) -> bool:
        self._hits = 0
        for number in range(len(self._ids)):
            await self._get(number)
        return self._hits == len(self._ids)

    async def _get(self, number: int) -> None:
        process = await self._client.get(_NAMESPACE, self._ids[number % len(self._ids)])
        assert process is not None
        assert process.state
        self._hits += process.source == "cache"


QUESTIONS = tuple(
    Question(
        f"get over a socket, {callers} caller{'s'[: callers - 1]}",
        "gets",
        functools.partial(_ask, callers=callers),
    )
    for callers in (1, 100)
)
