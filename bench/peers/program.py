"""A producer or a worker of a peer: a program in the virtual environment that the peer lies in.

python -m bench.peers.program PEER ACTION OPTIONS

OPTIONS are JSON.  Answers are JSON lines on standard output; times are those of the monotonic
clock, which all programs of a machine share.  An adapter is a module with three functions:

    install(dsn, options)   make the schema, and nothing else that counts
    producer(dsn)           an async context manager that gives `one(args)` and `many(batch, at)`
    work(dsn, job)          run what is due until cancelled, by `job.run(args)`
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import logging
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from bench.peers.job import Job, Payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import ModuleType

    Options = dict[str, Any]

_WARM_UPS = 20
_PART = 5000
# DBOS runs its workflows in threads, and pgprog is measured as it is installed.
_WITHOUT_UVLOOP = ("dbos", "pgprog")


def tell(answer: dict[str, object]) -> None:
    """Print one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def install(adapter: ModuleType, dsn: str, options: Options) -> None:
    """Make the schema."""
    await adapter.install(dsn, options)
    tell({"done": True})


async def enqueue_one(adapter: ModuleType, dsn: str, options: Options) -> None:
    """Enqueue one job after another for some seconds."""
    async with adapter.producer(dsn) as producer:
        for number in range(_WARM_UPS):
            await producer.one(_args(number, options))
        count, began_at = 0, time.monotonic()
        while time.monotonic() < began_at + options["seconds"]:
            await producer.one(_args(count % options["processes"], options))
            count += 1
        tell({"count": count, "seconds": time.monotonic() - began_at})


async def enqueue_many(adapter: ModuleType, dsn: str, options: Options) -> None:
    """Enqueue a number of jobs by the peer's call for many, all due so many seconds from now."""
    batch = [_args(number, options) for number in range(options["count"])]
    lead = options.get("lead")
    at = None if lead is None else time.time() + lead
    async with adapter.producer(dsn) as producer:
        began_at = time.monotonic()
        for start in range(0, len(batch), _PART):
            await producer.many(batch[start : start + _PART], at)
        seconds = time.monotonic() - began_at
        tell({"count": len(batch), "seconds": seconds, "over_at": time.time(), "due_at": at})


async def arrive(adapter: ModuleType, dsn: str, options: Options) -> None:
    """Enqueue jobs at random moments, whether those before them are through or not.

    A thread says when, as a socket would: the timers of event loops count whole milliseconds, and
    their being late would pass for the latency of whoever is asked.
    """
    loop, jobs = asyncio.get_running_loop(), asyncio.Queue[int]()
    moments = random.Random(options["seed"])
    async with adapter.producer(dsn) as producer:
        for number in range(_WARM_UPS):
            await producer.one(_args(number, options) | {"i": -1})
        tell({"ready": True})
        await asyncio.to_thread(sys.stdin.readline)
        gaps = [moments.expovariate(options["rate"]) for _ in range(options["count"])]
        due_at = [*itertools.accumulate(gaps, initial=time.monotonic() + 0.1)][1:]

        def announce() -> None:
            for number, at in enumerate(due_at):
                time.sleep(max(0.0, at - time.monotonic()))
                loop.call_soon_threadsafe(jobs.put_nowait, number)

        async with asyncio.TaskGroup() as arriving:
            arriving.create_task(asyncio.to_thread(announce))
            for _ in due_at:
                arriving.create_task(producer.one(_args(await jobs.get(), options)))
        tell({"due_at": due_at})


async def work(adapter: ModuleType, dsn: str, options: Options) -> None:
    """Work from the first line of standard input on; the second asks what began when."""
    payloads = Payloads(note=options["note"], state=options["state"], event=options["event"])
    job = Job(options["kind"], count=options["count"], payloads=payloads, dsn=dsn, tell=tell)
    tell({"ready": True})
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(adapter.work(dsn, job))
        await asyncio.to_thread(sys.stdin.readline)
        tell({"began_at": job.began_at})
        await asyncio.to_thread(sys.stdin.readline)


def _args(number: int, options: Options) -> dict[str, object]:
    return {"i": number, "note": options["note"]}


def _runner(peer: str) -> Callable[[Coroutine[Any, Any, None]], None]:
    if peer in _WITHOUT_UVLOOP:
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, None]], None] = importlib.import_module("uvloop").run
    return run


def main() -> None:
    """Do one action."""
    peer, action, raw = sys.argv[1:]
    options = json.loads(raw)
    logging.disable(logging.WARNING)
    adapter = importlib.import_module(f"bench.peers.adapters.{peer}")
    actions = {each.__name__: each for each in (install, enqueue_one, enqueue_many, arrive, work)}
    _runner(peer)(actions[action](adapter, options["dsn"], options))
    sys.stdout.flush()
    os._exit(0)  # threads of a peer need not end by themselves


if __name__ == "__main__":
    main()
