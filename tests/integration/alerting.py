"""A real Prometheus with the rules of deploy/, and what it scrapes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prometheus_client
import psycopg

from pgprog import Client, Engine, Namespace, Step
from pgprog.config import PoolConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/pgprog.rules.yml"
# What takes minutes in production, so that nobody is woken by a moment, takes seconds here.
SHORTER = {
    r"for: \d+[mh]": "for: 1s",
    r"\[1m\]": "[3s]",
    r"\[10m\]": "[10s]",
    r"offset 10m": "offset 10s",
}
PROMETHEUS = """
global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: 500ms}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: pgprog
    static_configs: [{{targets: [{targets}]}}]
"""
SHOP = """
import asyncio, os, pathlib, signal
from datetime import UTC, datetime, timedelta
from pgprog import Intent, Namespace, PermanentError, SetTimer

shop = Namespace("shop", step_timeout="10m")

@shop.init
async def begin(step):
    return Intent(state=0)

@shop.call
async def ping(step):
    return None

@shop.call
async def fail(step):
    raise PermanentError("no answer from the bank")

@shop.call
async def die(step):
    if not pathlib.Path("died").exists():
        pathlib.Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)

@shop.call
async def hang(step):
    pathlib.Path(f"hangs.{os.getpid()}").touch()
    while not pathlib.Path("free").exists():
        await asyncio.sleep(0.05)

@shop.call
async def be_late(step):
    return Intent(timers=[SetTimer(at=datetime.now(UTC) - timedelta(minutes=2))])

@shop.timeout
async def expire(step):
    return None
"""
CONFIG = """
dsn: "{dsn}"
worker: {{processes: 2, poll_every: 50ms, lease: 2s, heartbeat_every: 200ms, stop_timeout: 1s,
  http: "127.0.0.1:{port}"}}
namespaces:
  shop: {{handlers: "shop:shop"}}
"""


class Prometheus:
    """A Prometheus in *place* with the rules of deploy/, asked by its API at *port*."""

    def __init__(self, place: Path, port: int) -> None:
        self.place = place
        self._port = port

    def start(self, ports: Sequence[int], *, every: str = "1s") -> None:
        """Start it, and wait until it has scraped a program at each of *ports*."""
        rules = RULES.read_text()
        for long, short in SHORTER.items():
            rules = re.sub(long, short, rules)
        (self.place / "rules.yml").write_text(rules)
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        (self.place / "prometheus.yml").write_text(PROMETHEUS.format(targets=targets, every=every))
        with (self.place / "prometheus.log").open("ab") as log:
            self._program = subprocess.Popen(
                [
                    "prometheus",
                    "--config.file=prometheus.yml",
                    "--storage.tsdb.path=data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                cwd=self.place,
                stdout=log,
                stderr=log,
            )
        self._wait(lambda: self._is_scraping(len(ports)), "Prometheus to scrape all")

    def stop(self) -> None:
        self._program.terminate()
        self._program.wait(30)

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of Prometheus's API."""
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        return told["data"]

    def value(self, query: str) -> list[float]:
        return [float(each["value"][1]) for each in self.ask("query", query=query)["result"]]

    def firing(self) -> set[str]:
        alerts = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"}

    def wait_firing(self, *names: str) -> None:
        self._wait(lambda: {*names} <= self.firing(), f"{names} to fire")

    def wait_ended(self, *names: str) -> None:
        self._wait(lambda: not {*names} & self.firing(), f"{names} to end")

    def _wait(self, is_so: Any, what: str) -> None:
        until = time.monotonic() + 60
        while not is_so():
            if time.monotonic() > until:
                alerts = self.ask("alerts")["alerts"]
                raise AssertionError(f"waited in vain for {what}: {alerts}")
            threading.Event().wait(0.1)

    def _is_scraping(self, count: int) -> bool:
        try:
            return self.value('sum(up{job="pgprog"})') == [count]
        except OSError:
            return False


class World(Prometheus):
    """Workers, an exporter, an embedded engine, and Prometheus, which scrapes all three."""

    client: Client

    def __init__(self, dsn: str, place: Path) -> None:
        self.workers_port, self._exporter_port, self._engine_port, port = free_ports(4)
        super().__init__(place, port)
        self.dsn = dsn
        self.open = threading.Event()
        self.free = threading.Event()
        self._programs = ExitStack()
        self._workers: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        (self.place / "shop.py").write_text(SHOP)
        config = CONFIG.format(dsn=self.dsn, port=self.workers_port)
        (self.place / "pgprog.yaml").write_text(config)
        exporter = f"127.0.0.1:{self._exporter_port}"
        self.start_workers()
        self._start(
            *(sys.executable, "-m", "pgprog", "worker", "--processes", "1"),
            *("--only", "http", "--http", exporter),
        )
        self._programs.enter_context(self._engine())
        self._programs.callback(self.stop)
        self.start([self.workers_port, self._exporter_port, self._engine_port])
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.free.set()
        (self.place / "free").touch()
        self.stop_workers(signal.SIGTERM)
        self._programs.close()

    def start_workers(self) -> None:
        self._workers = self._started(sys.executable, "-m", "pgprog", "worker")

    def stop_workers(self, number: signal.Signals) -> None:
        if self._workers is not None:
            self._workers.send_signal(number)
            self._workers.wait(30)

    @contextmanager
    def sql(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            yield connection

    @contextmanager
    def _engine(self) -> Iterator[None]:
        """An embedded engine with a cache, and one connection for transactions of steps."""
        letters = Namespace[Any]("letters", cache={"enabled": True})

        @letters.init
        async def hold(step: Step[Any]) -> None:
            async with step.transaction():
                self.open.set()
                await asyncio.to_thread(self.free.wait)

        with Engine(self.dsn, [letters], pool=PoolConfig(transactions=1)) as self.client:
            server, thread = prometheus_client.start_http_server(
                self._engine_port, "127.0.0.1", registry=self.client.metrics
            )
            try:
                yield
            finally:
                server.shutdown()
                server.server_close()
                thread.join()

    def _start(self, *command: str) -> None:
        program = self._started(*command)
        self._programs.callback(program.wait, 30)
        self._programs.callback(program.terminate)

    def _started(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.place / f"{Path(command[0]).name}.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.place, env={**os.environ}, stdout=log, stderr=log
            )


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    with ExitStack() as sockets:
        made = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in made]


def missing() -> str:
    """Return why there is no Prometheus here, an empty text if there is."""
    absent = [name for name in ("prometheus", "promtool") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed: apt-get install prometheus" if absent else ""
