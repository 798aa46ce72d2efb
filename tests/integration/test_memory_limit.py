"""A worker that holds too much memory ends, and another takes its place; no attempt is burned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.test_reload import Worker

from pgprog import Client
from pgprog.daemon.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

pytestmark = pytest.mark.slow  # programs are started

SHOP = """
import asyncio, os, pathlib
from pgprog import Intent, Namespace

shop = Namespace("shop", step_timeout="10m")
leaked = []

@shop.init
async def begin(step):
    return Intent(state=0)

@shop.call
async def leak(step):
    leaked.append(b"x" * (150 << 20))
    return Intent(response=os.getpid())

@shop.call
async def leak_in_both(step):
    pathlib.Path(f"{os.getpid()}.leaks").touch()
    while len([*pathlib.Path().glob("*.leaks")]) < 2:
        await asyncio.sleep(0.01)
    leaked.append(b"x" * (150 << 20))
    return Intent(response=os.getpid())

@shop.call
async def hang(step):
    if step.attempt == 1 and not pathlib.Path("released").exists():
        await asyncio.Event().wait()
    return Intent(response=step.attempt)
"""


@pytest.fixture
def worker(db: str, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(db, tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    yield made
    made.program.kill()
    made.program.wait()
    made.log.close()


@pytest.fixture
def client(db: str) -> Iterator[Client]:
    with Client(db) as opened:
        yield opened


def test_a_worker_over_its_limit_ends_to_be_started_again_and_hands_its_steps_back(
    worker: Worker, client: Client, sql: psycopg.Connection[Any], tmp_path: Path
) -> None:
    worker.write(worker="memory_limit: 160MiB")
    worker.start()
    worker.log.wait(1, event="worker_started")
    client.init("shop", "a")
    client.init("shop", "b")
    hangs = client.submit("call", "shop", "a", name="hang")
    client.call("shop", "b", name="leak")
    [said] = worker.log.wait(1, event="memory_limit_reached")

    assert worker.program.wait(30) == 75
    assert said["resident_bytes"] > said["limit_bytes"] == 160 << 20
    row = sql.execute(
        "select status, attempt from pgprog.tasks where task_id = %s", (hangs.task_id,)
    ).fetchone()
    assert row == ("waiting", 0)
    (tmp_path / "released").touch()
    worker.start()
    assert client.wait(hangs.task_id) == 1


def test_workers_of_a_supervisor_are_replaced_one_after_another(
    worker: Worker, client: Client
) -> None:
    worker.write(worker="processes: 2, concurrency: 1, memory_limit: 160MiB")
    worker.start()
    worker.log.wait(2, event="worker_started")
    for name in ("a", "b"):
        client.init("shop", name)
    leaks = [
        client.submit("call", "shop", name, name="leak_in_both").task_id for name in ("a", "b")
    ]
    pids = {client.wait(task_id) for task_id in leaks}
    recycled = worker.log.wait(2, event="worker_recycled")
    worker.log.wait(4, event="worker_started")
    seen = [line["event"] for line in worker.log.wait(0)]
    order = [e for e in seen if e in {"worker_stopping", "worker_recycled", "worker_started"}]

    assert {line["pid"] for line in recycled} == pids
    turn = ["worker_stopping", "worker_recycled", "worker_started"]
    assert order == ["worker_started", "worker_started", *turn, *turn]
    assert worker.end() == 0


def test_what_a_program_holds_grows_with_what_it_touches() -> None:
    before = resident_bytes()
    held = b"x" * (64 << 20)

    assert resident_bytes() - before > len(held) / 2
