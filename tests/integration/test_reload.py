"""SIGHUP: a configuration that is read again while workers run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.test_supervisor import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

pytestmark = pytest.mark.slow  # programs are started

SHOP = """
from pgprog import Namespace
shop = Namespace("shop", concurrency=4)
"""
CONFIG = """
dsn: "{dsn}"
worker: {{poll_every: 50ms, stop_timeout: 100ms, {worker}}}
namespaces:
  shop: {{handlers: "shop:shop", {shop}}}
{more}
"""


class Worker:
    """`pgprog worker` in a directory of its own."""

    log: Lines
    program: subprocess.Popen[bytes]

    def __init__(self, dsn: str, place: Path) -> None:
        self._dsn = dsn
        self._place = place
        (place / "shop.py").write_text(SHOP)

    def write(self, shop: str = "", *, worker: str = "", more: str = "") -> None:
        """Write the configuration."""
        text = CONFIG.format(dsn=self._dsn, shop=shop, worker=worker, more=more)
        (self._place / "pgprog.yaml").write_text(text)

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "pgprog", "worker"]
        self.program = subprocess.Popen(
            command,
            cwd=self._place,
            env={**os.environ, "PGPROG_LOG_FORMAT": "json"},
            stderr=subprocess.PIPE,
        )
        assert self.program.stderr is not None
        self.log = Lines(self.program.stderr)

    def hang_up(self) -> None:
        """Have it read its configuration again."""
        self.program.send_signal(signal.SIGHUP)

    def children(self) -> list[int]:
        """Return the numbers of its workers, if it is a supervisor."""
        pid = self.program.pid
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def end(self) -> int:
        """Stop it, and return its exit code."""
        self.program.terminate()
        code = self.program.wait(20)
        self.log.close()
        return code


@pytest.fixture
def worker(db: str, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(db, tmp_path)
    yield made
    made.program.kill()
    made.program.wait()
    made.log.close()


@pytest.fixture
def shop(sql: psycopg.Connection[Any]) -> Callable[[], Any]:
    """What the database has of the namespace shop: version, retention and the last reason."""

    def look() -> Any:
        return sql.execute(
            "select n.settings_version, n.settings ->> 'retention', h.reason"
            " from pgprog.namespaces as n"
            " join pgprog.settings_history as h using (namespace, settings_version)"
        ).fetchone()

    return look


def test_a_worker_takes_over_what_it_reads_again_and_refuses_what_has_faults(
    worker: Worker, shop: Callable[[], Any]
) -> None:
    worker.write("retention: 7d")
    worker.start()
    worker.log.wait(1, event="worker_started")
    worker.write("retention: 9d", worker="concurrency: 7", more="log: {level: debug}")
    worker.hang_up()
    [reloaded] = worker.log.wait(1, event="reloaded")
    [left] = worker.log.wait(1, event="reload_needs_start")
    taken = shop()
    worker.write("retention: never, history: -1", more="log: {level: loud}")
    worker.hang_up()
    [refused] = worker.log.wait(1, event="reload_refused")
    worker.write("retention: 8d")
    worker.hang_up()
    worker.log.wait(2, event="reloaded")

    assert (reloaded["namespaces"], reloaded["log_level"]) == (["shop"], "debug")
    assert left["settings"] == ["worker.concurrency"]
    assert taken[:2] == (2, "9d")
    assert taken[2].startswith("SIGHUP, worker ")
    assert "3 faults" in refused["detail"]
    assert shop()[:2] == (3, "8d")
    assert worker.end() == 0


def test_what_a_worker_has_read_again_is_what_its_settings_are_compared_with(
    worker: Worker,
) -> None:
    http = "http: '127.0.0.1:0'"
    worker.write("retention: 7d", worker=http)
    worker.start()
    [listening] = worker.log.wait(1, event="http_listening")
    worker.log.wait(1, event="worker_started")
    worker.write("retention: 9d", worker=http)
    worker.hang_up()
    worker.log.wait(1, event="settings_changed")

    [address] = listening["addresses"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        assert b'pgprog_settings_differ{namespace="shop"} 0.0' in answer.read()


def test_workers_of_a_supervisor_take_over_what_it_reads_again_once(
    worker: Worker, shop: Callable[[], Any]
) -> None:
    worker.write("retention: 7d", worker="processes: 2")
    worker.start()
    worker.log.wait(2, event="worker_started")
    worker.write("retention: never", worker="processes: 2")
    worker.hang_up()
    [refused] = worker.log.wait(1, event="reload_refused")
    worker.write("retention: 9d", worker="processes: 2")
    worker.hang_up()
    worker.log.wait(2, event="reloaded")

    assert "namespaces.shop.retention" in refused["detail"]
    assert shop()[:2] == (2, "9d")
    assert worker.end() == 0


@pytest.mark.parametrize("value", ["2027-02-29", "[" * 10_000], ids=["no such day", "too deep"])
def test_a_file_that_yaml_cannot_make_values_of_is_refused_and_workers_go_on(
    worker: Worker, shop: Callable[[], Any], value: str
) -> None:
    """PyYAML raises no error of its own, and the supervisor ended by it."""
    worker.write("retention: 7d", worker="processes: 2")
    worker.start()
    worker.log.wait(2, event="worker_started")
    worker.write(f"retention: {value}", worker="processes: 2")
    worker.hang_up()
    [refused] = worker.log.wait(1, event="reload_refused")
    worker.write("retention: 9d", worker="processes: 2")
    worker.hang_up()
    worker.log.wait(2, event="reloaded")

    assert "is not YAML" in refused["detail"]
    assert worker.end() == 0


def test_a_file_that_is_gone_is_refused_and_who_falls_is_replaced_by_the_old_one(
    worker: Worker, tmp_path: Path
) -> None:
    """Without it the configuration has no faults and no namespaces: no worker starts with that."""
    worker.write(worker="processes: 2")
    worker.start()
    worker.log.wait(2, event="worker_started")
    (tmp_path / "pgprog.yaml").rename(tmp_path / "pgprog.yaml.new")
    worker.hang_up()
    [refused] = worker.log.wait(1, event="reload_refused")
    os.kill(worker.children()[0], signal.SIGKILL)
    worker.log.wait(3, event="worker_started")

    assert "the configuration has no namespaces" in refused["detail"]
    assert worker.end() == 0
