"""`pgprog worker` as probes and scrapers see it, alone and under a supervisor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.waiting import until

from pgprog import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    import psycopg

pytestmark = pytest.mark.slow  # programs are started

SHOP = """
import asyncio, os, signal, time
from pgprog import Intent, Namespace

shop = Namespace("shop", step_timeout="10m")

@shop.init
async def begin(step):
    return Intent(state=0)

@shop.call
async def ping(step):
    return Intent(response=os.getpid())

@shop.call
async def hang(step):
    await asyncio.Event().wait()

@shop.call
async def block(step):
    time.sleep(3.5)

@shop.call
async def die(step):
    os.kill(os.getpid(), signal.SIGKILL)
"""
CONFIG = """
dsn: "{dsn}"
worker:
  {{poll_every: 50ms, lease: 4s, heartbeat_every: 200ms, stop_timeout: {stop},
    processes: {processes}, http: "127.0.0.1:0"}}
namespaces:
  shop: {{handlers: "shop:shop"}}
"""


class Shown:
    """A worker that runs, and what it shows."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.program = program
        self.events: list[dict[str, Any]] = []
        self._found = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._found.wait(30), self.events
        [self.address] = next(e for e in self.events if e["event"] == "http_listening")["addresses"]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def wait(self, path: str, status: int, words: str = "") -> str:
        """Return what is answered once it is this; the time-out of the test ends a wait in vain."""
        while True:
            found, body = self.get(path)
            if found == status and words in body:
                return body

    def figure(self, name: str, **labels: str) -> float:
        """Return the sum of the series that have these labels."""
        _, body = self.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_figure(self, is_so: Callable[[float], bool], name: str, **labels: str) -> None:
        until(lambda: is_so(self.figure(name, **labels)))

    def _read(self) -> None:
        assert self.program.stderr is not None
        for line in self.program.stderr:
            if line.startswith("{"):
                self.events.append(json.loads(line))
            if '"http_listening"' in line:
                self._found.set()
        self._found.set()


@contextmanager
def running(
    place: Path, dsn: str, *words: str, processes: int = 1, stop: str = "100ms"
) -> Iterator[Shown]:
    (place / "shop.py").write_text(SHOP)
    config = CONFIG.format(dsn=dsn, processes=processes, stop=stop)
    (place / "pgprog.yaml").write_text(config)
    with subprocess.Popen(
        [sys.executable, "-m", "pgprog", "worker", "--log-format", "json", *words],
        cwd=place,
        env={**os.environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            yield Shown(program)
        finally:
            program.terminate()
            program.wait(30)


@pytest.fixture
def client(db: str) -> Iterator[Client]:
    with Client(db) as opened:
        yield opened


def test_a_worker_is_ready_while_it_serves_and_says_why_when_it_does_not(
    tmp_path: Path, db: str, client: Client
) -> None:
    with running(tmp_path, db, stop="30s") as worker:
        ready = worker.wait("/ready", 200)
        client.init("shop", "a")
        hanging = client.submit("call", "shop", "a", name="hang")
        worker.wait_figure(lambda count: count == 1, "pgprog_steps_busy", namespace="shop")
        live = worker.get("/live")
        status, health = worker.get("/health")
        worker.wait_figure(lambda count: count == 1, "pgprog_tasks_total", type="init")
        worker.program.terminate()
        draining = worker.wait("/ready", 503, "draining")
        worker.program.terminate()

    assert "1 of 1" in ready
    assert live == (200, "live\n")
    assert draining == "the worker is draining\n"
    assert hanging.task_id
    found = json.loads(health)
    assert (status, found["status"]) == (200, "passing")
    assert next(c["name"] for c in found["components"]) == "database"
    parts = {c["name"]: c for c in found["workers"][0]["components"]}
    assert parts.keys() == {"completer", "lease", "loop", "scanner", "collector", "maintenance"}
    assert all(0 <= part["age_seconds"] < 60 for part in parts.values())


def test_a_worker_without_its_database_is_live_and_not_ready_and_scraped_all_the_same(
    tmp_path: Path, fresh_db: str, admin: psycopg.Connection[Any]
) -> None:
    with running(tmp_path, fresh_db) as worker:
        worker.wait("/ready", 200)
        name = fresh_db.rpartition("dbname=")[2].split()[0].strip("'")
        admin.execute(f"alter database {name} allow_connections false".encode())
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,)
        )
        try:
            why = worker.wait("/ready", 503)
            live = worker.get("/live")
            worker.wait_figure(lambda value: value == 0, "pgprog_database_up")
            missing = worker.figure("pgprog_workers", namespace="shop")
            scanner = worker.wait("/health", 503, "nothing can be claimed")
        finally:
            admin.execute(f"alter database {name} allow_connections true".encode())
        worker.wait("/ready", 200)
        worker.wait_figure(lambda value: value == 1, "pgprog_workers", namespace="shop")

    # Whoever asked first says so.
    assert why.startswith(("scanner: ", "collector: ", "maintenance: ", "lease: ", "database: "))
    assert live[0] == 200
    assert missing == 0
    assert json.loads(scanner)["status"] == "critical"


def test_a_worker_whose_loop_hangs_says_so(tmp_path: Path, db: str, client: Client) -> None:
    with running(tmp_path, db) as worker:
        worker.wait("/ready", 200)
        client.init("shop", "a")
        client.submit("call", "shop", "a", name="block")
        why = worker.wait("/live", 503)
        worker.wait("/live", 200)

    assert why.startswith("loop: nothing was done for ")


def test_a_supervisor_shows_its_workers_as_one_and_forgets_nothing_when_one_falls(
    tmp_path: Path, db: str, client: Client
) -> None:
    with running(tmp_path, db, processes=2) as worker:
        worker.wait("/ready", 200, "2 of 2")
        client.init("shop", "a")
        worker.wait_figure(lambda count: count == 1, "pgprog_tasks_total", type="init")
        worker.wait_figure(lambda count: count == 2, "pgprog_workers", namespace="shop")
        client.submit("call", "shop", "a", name="die")
        worker.wait_figure(lambda falls: falls >= 1, "pgprog_worker_falls_total")
        live = worker.get("/live")
        after = worker.figure("pgprog_tasks_total", namespace="shop", type="init")
        worker.wait_figure(lambda zombies: zombies >= 1, "pgprog_zombies_total")

    assert live[0] == 200
    assert after == 1


def test_an_http_worker_alone_shows_the_database(tmp_path: Path, db: str, client: Client) -> None:
    with running(tmp_path, db) as worker:  # which makes the namespace
        worker.wait("/ready", 200)
    with running(tmp_path, db, "--only", "http") as worker:
        worker.wait("/ready", 200)
        client.submit("init", "shop", "a")
        worker.wait_figure(lambda count: count == 1, "pgprog_queue_tasks", status="waiting")
        worker.wait_figure(lambda count: count == 0, "pgprog_workers", namespace="shop")


def test_a_program_that_only_keeps_house_measures_the_queues_each_second(
    tmp_path: Path, db: str, sql: psycopg.Connection[Any]
) -> None:
    """The workers whose steps fill and empty them are other programs."""
    measured: set[datetime] = set()

    def look() -> int:
        rows = sql.execute("select measured_at from pgprog_data.measurements where name = 'queues'")
        measured.update(at for (at,) in rows)
        return len(measured)

    with running(tmp_path, db, "--only", "maintenance,http"):
        until(lambda: look() >= 3)

    assert max(measured) - min(measured) < timedelta(seconds=6)


def test_a_worker_that_cannot_listen_ends_and_says_where(tmp_path: Path, db: str) -> None:
    with running(tmp_path, db) as worker:
        second = subprocess.run(
            [sys.executable, "-m", "pgprog", "worker", "--http", worker.address],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert second.returncode == 1
    assert f"worker.http: nothing can listen on {worker.address}" in second.stderr
    assert "Traceback" not in second.stderr
