"""Child processes of worker daemons and scripts: what they print, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import until_on_loop

from pgprog import AsyncClient, AsyncTask, Request
from pgprog.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import psycopg

pytestmark = pytest.mark.slow  # programs are started

PROGRAMS = Path(__file__).parent / "programs"
WORKER = [sys.executable, "-m", "pgprog", "worker", "--log-format", "json"]
CONFIG = """
dsn: "{dsn}"
worker: {{poll_every: 50ms, lease: 1s, heartbeat_every: 200ms}}
namespaces:
  apart: {{handlers: "hazards:apart"}}
  together: {{handlers: "hazards:together"}}
"""
SCRIPT = """
import asyncio, os
from pgprog import Engine, Intent, Namespace

shop = Namespace("shop", isolation="process")

@shop.init
def begin(step):
    return Intent(response=os.getpid())

async def main():
    async with Engine(os.environ["DSN"], [shop]) as engine:
        print(os.getpid() != await engine.init("shop", "s"))

"""


class Daemons:
    """Workers of the hazards in processes of their own."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.config = place / "pgprog.yaml"
        self.config.write_text(CONFIG.format(dsn=dsn))
        self.running: list[subprocess.Popen[str]] = []

    def start(self) -> subprocess.Popen[str]:
        """Start one, and return it when it serves."""
        worker = subprocess.Popen(
            [*WORKER, "--config", str(self.config)],
            cwd=PROGRAMS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(worker)
        assert worker.stderr is not None
        while "worker_started" not in (line := worker.stderr.readline()):
            assert line, "the worker has ended"
        return worker


@pytest.fixture
def daemons(db: str, tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(db, tmp_path)
    yield made
    for worker in made.running:
        worker.kill()
        worker.communicate()


@pytest.fixture
async def client(db: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(db) as client:
        yield client


def is_gone(pid: int) -> bool:
    """Tell whether there is no process of this id but a zombie."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_what_a_handler_in_a_child_process_logs_and_prints_comes_out_of_its_worker(
    daemons: Daemons, client: AsyncClient
) -> None:
    worker = daemons.start()
    await client.init("apart", "a", timeout=60)
    await client.call("apart", "a", name="speak", timeout=60)
    with pytest.raises(StepFailed):
        await client.call("apart", "a", {"how": "odd"}, name="fail", timeout=60)
    worker.send_signal(signal.SIGTERM)
    printed, logged = await asyncio.to_thread(worker.communicate, timeout=60)

    assert printed == "printed\n"
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["logger"] for line in lines if line["event"] == "spoken from a"] == ["shop"]
    [failed] = [line for line in lines if line["event"] == "step_failed"]
    assert "KeyError" in failed["exception"]
    assert worker.returncode == 0


async def test_the_child_processes_of_a_worker_that_is_killed_die_with_it(
    daemons: Daemons, client: AsyncClient
) -> None:
    worker = daemons.start()
    await client.init("apart", "a", timeout=60)
    await client.init("apart", "b", timeout=60)
    idle = (await client.call("apart", "b", name="look", timeout=60))["pid"]
    await client.submit("call", "apart", "a", name="search_on")
    assert worker.stdout is not None
    busy = int(await asyncio.to_thread(worker.stdout.readline))
    second = (await client.call("apart", "b", name="look", timeout=60))["pid"]
    worker.kill()
    worker.wait()

    assert len({idle, busy, second}) == 2
    await until_on_loop(lambda: all(is_gone(pid) for pid in (idle, busy, second)))


async def test_a_worker_whose_standard_files_are_closed_runs_steps_in_child_processes(
    client: AsyncClient, daemons: Daemons, sql: psycopg.Connection[Any]
) -> None:
    serving = "select from pgprog.workers"
    shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *WORKER, "--config", str(daemons.config)]
    worker = await asyncio.create_subprocess_exec(*shell, cwd=PROGRAMS)
    try:
        await until_on_loop(
            lambda: worker.returncode is not None or len(sql.execute(serving).fetchall()) > 0
        )
        await client.init("apart", "a", timeout=20)
        seen = await client.call("apart", "a", name="look", timeout=20)
        await client.call("apart", "a", name="speak", timeout=20)
        worker.terminate()

        assert seen["pid"] != worker.pid
        assert await asyncio.wait_for(worker.wait(), 20) == 0
    finally:
        if worker.returncode is None:
            worker.kill()


async def test_a_child_process_ends_when_its_worker_stands_still_for_a_lease(
    daemons: Daemons, client: AsyncClient, sql: psycopg.Connection[Any]
) -> None:
    worker = daemons.start()
    await client.init("apart", "a", timeout=60)
    await client.submit("call", "apart", "a", name="sleep_on")
    assert worker.stdout is not None
    first = int(await asyncio.to_thread(worker.stdout.readline))
    worker.send_signal(signal.SIGSTOP)
    await until_on_loop(lambda: is_gone(first))
    worker.send_signal(signal.SIGCONT)
    second = int(await asyncio.to_thread(worker.stdout.readline))

    assert second != first
    rows = sql.execute("select attempt, crashes from pgprog_data.queue").fetchall()
    assert rows == [(1, 0)]


async def test_a_poison_pill_takes_one_worker_down_and_from_then_on_no_bystander(
    daemons: Daemons, client: AsyncClient
) -> None:
    victim = daemons.start()
    for name in ("poison", "pill", "bystander"):
        await client.init("together", name, timeout=60)
    # In one statement, so that one claim takes both, and the death of the worker loses both.
    poison, pill = await client.submit_many(
        [
            Request("call", "together", "poison", name="crash"),
            Request("call", "together", "pill", name="crash_once"),
        ]
    )
    assert isinstance(poison, AsyncTask)
    assert isinstance(pill, AsyncTask)
    await until_on_loop(lambda: victim.poll() is not None)
    worker = daemons.start()
    beside = [
        await client.submit("call", "together", "bystander", {"seconds": 0.5}, name="linger")
        for _ in range(8)
    ]
    with pytest.raises(StepFailed, match="zombie detected"):
        await poison.wait(timeout=60)

    assert await pill.wait(timeout=60) != worker.pid
    assert {await task.wait(timeout=60) for task in beside} == {worker.pid}
    assert worker.poll() is None
    assert {row.attempt for row in await client.trace("together", "bystander")} == {1}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ('if __name__ == "__main__":\n    asyncio.run(main())', "True\n"),
        ("asyncio.run(main())", 'put what starts it below `if __name__ == "__main__":`'),
    ],
)
def test_a_script_serves_with_child_processes_where_its_start_is_guarded(
    db: str, tmp_path: Path, start: str, said: str
) -> None:
    script = tmp_path / "shop script.py"
    script.write_text(SCRIPT + start)
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "DSN": db},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert said in ran.stdout + ran.stderr
