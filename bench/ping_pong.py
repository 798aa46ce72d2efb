"""How long does a program take to ask another one over a Unix socket, and to hear from it?

Nobody looks at what is said: 60 bytes are answered by 1 200, by protocols of asyncio that read into
a buffer of their own.  That is the floor of a read over the socket of a shared reader.

python -m bench.ping_pong PATH    answer there until the end of the standard input
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measure import Meter, percentile
from bench.question import Question

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bench.question import Sample, Sizes
    from bench.server import Arena

_ROOT = Path(__file__).parents[1]
_ASKED, _ANSWERED = bytes(60), bytes(1200)


class _Half(asyncio.BufferedProtocol):
    """One end of the connection."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(1 << 16))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        del sizehint
        return self._buffer


class _Answering(_Half):
    def buffer_updated(self, nbytes: int) -> None:
        del nbytes
        self._transport.write(_ANSWERED)


class _Asking(_Half):
    _left = 0

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left == 0:
            self._answered.set_result(None)

    async def ask(self, _: int) -> None:
        """Ask, and wait for the whole answer."""
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = len(_ANSWERED)
        self._transport.write(_ASKED)
        await self._answered


async def repeated(
    ask: Callable[[int], Awaitable[object]], *, callers: int, seconds: float
) -> list[float]:
    """Return the seconds that each question took which callers asked, one after the other."""
    times: list[float] = []
    clock = time.perf_counter
    ends_at = clock() + seconds

    async def call(number: int) -> None:
        while (began_at := clock()) < ends_at:
            await ask(number)
            times.append(clock() - began_at)
            number += callers

    await asyncio.gather(*(call(number) for number in range(callers)))
    return times


def taken(times: list[float]) -> Mapping[str, float]:
    """Return the figures of such times."""
    return {"p50 us": 1e6 * percentile(times, 0.5), "p99 us": 1e6 * percentile(times, 0.99)}


def _ask(arena: Arena, sizes: Sizes) -> Sample:
    with arena.database() as dsn, tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/pong"
        command = [sys.executable, "-m", "bench.ping_pong", path]
        with subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as answering:
            assert answering.stdout is not None
            answering.stdout.readline()
            meter = Meter(dsn)
            with meter:
                times = asyncio.run(_asked(path, seconds=sizes.seconds))
            answering.communicate()
        return meter.sample(len(times), figures=taken(times))


async def _asked(path: str, *, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_unix_connection(_Asking, path)
    times = await repeated(asking.ask, callers=1, seconds=seconds)
    transport.close()
    return times


async def _answer(path: str) -> None:
    await asyncio.get_running_loop().create_unix_server(_Answering, path)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


QUESTIONS = (Question("ping-pong over a socket", "answers", _ask),)

if __name__ == "__main__":
    asyncio.run(_answer(sys.argv[1]))
