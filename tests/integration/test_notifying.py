"""What a service manager hears of `pgprog worker`: readiness, progress, reloads, the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.integration.test_supervisor import Lines

from pgprog import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg

pytestmark = pytest.mark.slow  # programs are started, and silence is listened to

SHOP = """
import asyncio, pathlib, time
from pgprog import Intent, Namespace

shop = Namespace("shop", step_timeout="10m")

@shop.init
async def begin(step):
    return Intent(state=0)

@shop.call
async def hang(step):
    await asyncio.Event().wait()

@shop.call
async def block(step):
    while not pathlib.Path("released").exists():
        time.sleep(0.01)
"""
CONFIG = """
dsn: "{dsn}"
worker: {{processes: {processes}, concurrency: 5, poll_every: 100ms, lease: 1h,
  heartbeat_every: 200ms, stop_timeout: 100ms}}
namespaces: {{shop: {{handlers: "shop:shop"}}}}
"""
WATCHDOG_SECONDS = 1.0
# Claims that are never answered, while everything else is.
DEAF = """
do $$
declare
  definition text := pg_get_functiondef(oid) from pg_proc where proname = 'claim';
begin
  execute regexp_replace(definition, 'begin\\M', 'begin perform pg_sleep(1000);');
end
$$
"""


class Told:
    """A worker, and what it says to the socket of its manager."""

    log: Lines
    program: subprocess.Popen[bytes]

    def __init__(self, place: Path) -> None:
        self._place = place
        self._address = f"@pgprog-test-{os.getpid()}-{id(self)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._address.replace("@", "\0"))
        (place / "shop.py").write_text(SHOP)

    def start(self, dsn: str, *, processes: int = 1) -> None:
        """Start it, as a service with a watchdog."""
        text = CONFIG.format(dsn=dsn, processes=processes)
        (self._place / "pgprog.yaml").write_text(text)
        watchdog = {"WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000))}
        self.program = subprocess.Popen(
            [sys.executable, "-m", "pgprog", "worker", "--log-format", "json"],
            cwd=self._place,
            env={**os.environ, "NOTIFY_SOCKET": self._address, **watchdog},
            stderr=subprocess.PIPE,
        )
        assert self.program.stderr is not None
        self.log = Lines(self.program.stderr)

    def until(self, word: str, *, within: float = 60) -> list[str]:
        """Return the lines that come up to this one."""
        ends_at = time.monotonic() + within
        lines: list[str] = []
        while word not in lines:
            if (left := ends_at - time.monotonic()) <= 0:
                raise TimeoutError(word)
            self._socket.settimeout(left)
            lines += self._socket.recv(4096).decode().split("\n")
        return lines

    def is_starved(self, *, for_seconds: float) -> bool:
        """Return whether it gives no sign of progress for so long, once it gives no more."""
        try:
            while True:
                self.until("WATCHDOG=1", within=for_seconds)
        except TimeoutError:
            return True

    def release(self) -> None:
        """Let the handlers that block go on."""
        (self._place / "released").touch()

    def close(self) -> None:
        """End it."""
        self.release()
        self.program.kill()
        self.program.wait()
        self.log.close()
        self._socket.close()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_manager_hears_of_readiness_progress_reloads_and_the_end(
    told: Told, db: str, sql: psycopg.Connection[Any], processes: int
) -> None:
    told.start(db, processes=processes)
    ready = told.until("READY=1")
    [registered] = sql.execute("select count(*) from pgprog.workers").fetchone() or (0,)
    fed = told.until("WATCHDOG=1", within=WATCHDOG_SECONDS)
    told.until("WATCHDOG=1", within=WATCHDOG_SECONDS)
    told.program.send_signal(signal.SIGHUP)
    reload = told.until("RELOADING=1") + told.until("READY=1")
    told.program.send_signal(signal.SIGTERM)
    stopping = told.until("STOPPING=1")

    assert "WATCHDOG=1" not in ready
    assert registered >= 1
    assert any(line.startswith("STATUS=") for line in ready + fed)
    assert any(line.startswith("MONOTONIC_USEC=") for line in reload)
    assert "EXTEND_TIMEOUT_USEC=15100000" in stopping
    assert told.program.wait(30) == 0


def test_the_status_tells_what_a_worker_does(told: Told, db: str) -> None:
    told.start(db)
    told.until("READY=1")
    with Client(db) as client:
        for number in range(9):
            client.init("shop", f"s{number}")
        for number in range(9):
            client.submit("call", "shop", f"s{number}", name="hang")
        status = ""
        while not status.startswith("STATUS=5 of 5 steps busy, more are due, last claim "):
            [status] = [line for line in told.until("WATCHDOG=1") if line.startswith("STATUS=")]

    assert status.endswith(" s ago")


def test_a_worker_whose_loop_is_blocked_by_a_handler_is_not_fed(told: Told, db: str) -> None:
    told.start(db)
    told.until("READY=1")
    with Client(db) as client:
        client.init("shop", "s")
        client.submit("call", "shop", "s", name="block")
        starved = told.is_starved(for_seconds=2 * WATCHDOG_SECONDS)
    told.release()

    assert starved
    assert told.until("WATCHDOG=1")


def test_a_worker_whose_claims_are_not_answered_is_not_fed_though_it_renews(
    told: Told, fresh_db: str, session: Any
) -> None:
    told.start(fresh_db)
    told.until("READY=1")
    session(fresh_db).execute(DEAF)

    assert told.is_starved(for_seconds=2 * WATCHDOG_SECONDS)
    [said, *_] = told.log.wait(1, event="no_progress")
    assert said["parts"] == ["claims"]


def test_a_supervisor_replaces_a_worker_that_hangs_and_feeds_while_the_others_progress(
    told: Told, db: str, sql: psycopg.Connection[Any]
) -> None:
    told.start(db, processes=2)
    told.log.wait(2, event="worker_started")
    [victim, *_] = sql.execute("select name from pgprog.workers").fetchone() or ("",)
    pid = int(victim.rpartition(":")[2])
    os.kill(pid, signal.SIGSTOP)
    [hangs, *_] = told.log.wait(1, event="worker_hangs")
    told.log.wait(3, event="worker_started")
    told.until("STATUS=1 workers make no progress")

    assert hangs["pid"] == pid
    assert told.until("WATCHDOG=1", within=5)


def test_a_worker_is_fed_while_its_database_is_gone(told: Told, fresh_db: str, admin: Any) -> None:
    told.start(fresh_db)
    told.until("READY=1")
    name = conninfo_to_dict(fresh_db)["dbname"]
    admin.execute(f'alter database "{name}" allow_connections false')
    admin.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
    )
    try:
        told.until("STATUS=the database does not answer")
        for _ in range(5):
            told.until("WATCHDOG=1", within=WATCHDOG_SECONDS)
    finally:
        admin.execute(f'alter database "{name}" allow_connections true')
