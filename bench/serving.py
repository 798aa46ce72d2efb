"""A worker in a process of its own, for as long as its standard input is open.

python -m bench.serving DSN WAKEUPS NAMESPACE…
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from bench.workload import NAMESPACE, counters
from pgprog.config import Config, Wakeups, WorkerConfig
from pgprog.engine import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_READY = "ready"
_ROOT = Path(__file__).parents[1]


@contextmanager
def workers(
    dsn: str,
    *,
    count: int,
    namespaces: Sequence[str] = (NAMESPACE,),
    wakeups: Wakeups = "notify",
) -> Iterator[None]:
    """Keep *count* of these processes while the block lasts."""
    command = [sys.executable, "-m", "bench.serving", dsn, wakeups, *namespaces]
    serving = [
        subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        for each in serving:
            if each.stdout is None or each.stdout.readline().strip() != _READY:
                msg = "a worker did not start"
                raise RuntimeError(msg)
        yield
    finally:
        for each in serving:
            each.communicate()


async def _serve(dsn: str, wakeups: Wakeups, *namespaces: str) -> None:
    config = Config(dsn=dsn, worker=WorkerConfig(concurrency=400, wakeups=wakeups))
    async with Worker(config, [counters(namespace) for namespace in namespaces]):
        print(_READY, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _by_name(name: str) -> Wakeups:
    """Return the way of this name."""
    return next(each for each in get_args(Wakeups) if each == name)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], _by_name(sys.argv[2]), *sys.argv[3:]))
