"""`pgprog worker` and `pgprog dev`, as programs of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.waiting import until

from pgprog import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # programs are started

SHOP = """
import asyncio
from pgprog import Intent, Namespace

shop = Namespace("shop", step_timeout="10m")

@shop.init
async def begin(step):
    return Intent(state={version})

@shop.call
async def version(step):
    return Intent(response={version})

@shop.call
async def hang(step):
    await asyncio.Event().wait()

def everything(step):
    return Intent(response=[str(step.type), step.name])
"""
CONFIG = """
dsn: "{dsn}"
worker: {{poll_every: 50ms, lease: 2s, heartbeat_every: 200ms, stop_timeout: 100ms}}
namespaces:
  shop: {{handlers: "{handlers}", retention: 7d}}
"""


def pgprog(*words: str, cwd: Path, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pgprog", *words],
        cwd=cwd,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def place(tmp_path: Path, db: str) -> Path:
    """A directory with handlers and a configuration."""
    (tmp_path / "shop.py").write_text(SHOP.format(version=1))
    (tmp_path / "pgprog.yaml").write_text(CONFIG.format(dsn=db, handlers="shop:shop"))
    return tmp_path


@pytest.fixture
def client(db: str) -> Iterator[Client]:
    with Client(db) as opened:
        yield opened


def wait_for_namespace(sql: psycopg.Connection[Any], name: str) -> None:
    """Return when a worker has made the namespace; the time-out of the test ends a wait in vain."""
    known = "select from pgprog.namespaces where namespace = %s"
    until(lambda: sql.execute(known, (name,)).fetchall())


def test_a_worker_serves_the_namespaces_of_its_configuration_until_a_signal(
    place: Path, client: Client, sql: psycopg.Connection[Any]
) -> None:
    with pgprog("worker", "--log-format", "json", cwd=place) as worker:
        wait_for_namespace(sql, "shop")
        client.init("shop", "s")
        answer = client.call("shop", "s", name="version")
        hanging = client.submit("call", "shop", "s", name="hang")
        until(lambda: str(client.result(hanging.task_id).status) == "running")
        worker.send_signal(signal.SIGTERM)
        _, log = worker.communicate(timeout=20)

    assert worker.returncode == 0
    assert answer == 1
    assert str(client.result(hanging.task_id).status) == "waiting"
    assert [row.attempt for row in client.trace("shop", "s")] == [1, 1, 0]
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events[0] == "worker_started"
    assert events[-1] == "worker_stopped"
    [[settings]] = sql.execute("select settings from pgprog.namespaces").fetchall()
    assert settings["retention"] == "7d"


def test_a_processor_function_may_serve_a_whole_namespace(
    place: Path, db: str, client: Client, sql: psycopg.Connection[Any]
) -> None:
    config = CONFIG.format(dsn=db, handlers="shop:everything")
    (place / "pgprog.yaml").write_text(config)
    with pgprog("worker", cwd=place) as worker:
        wait_for_namespace(sql, "shop")
        client.init("shop", "s")
        answer = client.call("shop", "s", name="anything")
        worker.send_signal(signal.SIGINT)
        worker.communicate(timeout=20)

    assert answer == ["call", "anything"]


@pytest.mark.parametrize(
    ("handlers", "fault"),
    [
        ("nowhere:shop", "namespaces.shop.handlers: nowhere cannot be imported"),
        ("broken:shop", "ZeroDivisionError: division by zero"),
        ("shop:nothing", "module shop has no nothing"),
        ("shop:SHOP", "neither a Namespace nor a function"),
        ("other:other", "is the namespace other, not shop"),
    ],
)
def test_handlers_that_cannot_be_loaded_end_the_worker_with_their_name(
    place: Path, db: str, handlers: str, fault: str
) -> None:
    (place / "broken.py").write_text("1 / 0\n")
    (place / "other.py").write_text('from pgprog import Namespace\nother = Namespace("other")\n')
    (place / "shop.py").write_text(SHOP.format(version=1) + "\nSHOP = 1\n")
    (place / "pgprog.yaml").write_text(CONFIG.format(dsn=db, handlers=handlers))
    with pgprog("worker", cwd=place) as worker:
        _, stderr = worker.communicate(timeout=20)

    assert worker.returncode == 1
    assert fault in stderr
    assert "Traceback" not in stderr


def test_a_worker_of_another_schema_says_what_to_run(
    place: Path, sql: psycopg.Connection[Any]
) -> None:
    newest = (
        "from pgprog_data.schema_migrations where name ="
        " (select max(name) from pgprog_data.schema_migrations where name like 'migrations/%')"
    )
    sql.execute(f"create table public.newest as select * {newest}".encode())
    sql.execute(f"delete {newest}".encode())
    try:
        with pgprog("worker", cwd=place) as worker:
            _, stderr = worker.communicate(timeout=20)
    finally:
        sql.execute("insert into pgprog_data.schema_migrations select * from public.newest")
        sql.execute("drop table public.newest")

    assert worker.returncode == 1
    assert "pgprog db migrate" in stderr


def test_a_worker_without_a_database_says_so(place: Path) -> None:
    with pgprog("worker", "--dsn", "host=/nowhere", cwd=place) as worker:
        _, stderr = worker.communicate(timeout=20)

    assert worker.returncode == 1
    assert "/nowhere" in stderr
    assert "Traceback" not in stderr


def test_dev_serves_a_file_and_starts_again_when_it_changes(tmp_path: Path, home: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP.format(version=1))
    with pgprog("dev", "shop.py", cwd=tmp_path) as dev:
        assert dev.stdout is not None
        dsn = dev.stdout.readline().removeprefix("dsn").strip()
        with psycopg.connect(dsn, autocommit=True) as sql:
            wait_for_namespace(sql, "shop")
        with Client(dsn) as client:
            client.init("shop", "s")
            before = client.call("shop", "s", name="version")
            # Longer: what is compiled knows a change within a second by the size only.
            (tmp_path / "shop.py").write_text(SHOP.format(version=22))
            until(lambda: client.call("shop", "s", name="version") == 22)
        dev.send_signal(signal.SIGINT)
        dev.communicate(timeout=30)

    assert before == 1
    assert str(home) in dsn


@pytest.fixture
def hears_hangups() -> Iterator[None]:
    """Programs inherit that SIGHUP is ignored, as where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hears_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["kill", "a closed window"])
def test_dev_leaves_no_worker_behind_however_it_is_ended(
    tmp_path: Path, home: Path, number: signal.Signals
) -> None:
    (tmp_path / "shop.py").write_text(SHOP.format(version=1))
    with pgprog("dev", "shop.py", cwd=tmp_path) as dev:
        assert dev.stdout is not None
        dsn = dev.stdout.readline().removeprefix("dsn").strip()
        with psycopg.connect(dsn, autocommit=True) as sql:
            wait_for_namespace(sql, "shop")
        [worker] = Path(f"/proc/{dev.pid}/task/{dev.pid}/children").read_text().split()
        dev.send_signal(number)
        try:
            dev.communicate(timeout=30)  # to the end of what the worker may write
        finally:
            if Path(f"/proc/{worker}").exists():
                os.kill(int(worker), signal.SIGKILL)

    assert dev.returncode == 128 + number
