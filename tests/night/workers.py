"""The workers of the night: a supervisor with two, and a program that only shows figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chaos.fleet import ROOT
from tests.chaos.journal import Journal, read_all
from tests.integration.alerting import free_ports

if TYPE_CHECKING:
    from typing import Self

HANDLERS = Path(__file__).with_name("orders.py")
_CONFIG = """
dsn: "{dsn}"
worker: {{processes: 2, concurrency: 20, poll_every: 200ms, lease: 2s, heartbeat_every: 400ms,
  stop_timeout: 5s, memory_limit: 400MiB, http: "127.0.0.1:{port}"}}
log: {{format: json}}
namespaces:
  chaos: {{handlers: "tests.chaos.handlers:chaos"}}
  orders: {{handlers: "orders:orders", rollback_above: 0.2{orders}}}
"""


class Workers:
    """Programs in *place*, whose way to the database is *dsn*; figures come straight from it."""

    def __init__(self, place: Path, *, dsn: str, direct: str) -> None:
        self.place = place
        self.config = place / "pgprog.yaml"
        self.ports = free_ports(2)
        self._dsn = dsn
        self._direct = direct
        self._log = place / "workers.log"
        self._logs = place / "logs"
        self._read = 0
        self._deaths = Journal(self._logs / "deaths.log")
        self.write_config()
        self.write_handlers(HANDLERS.read_text())

    def __enter__(self) -> Self:
        self.start()
        http = f"127.0.0.1:{self.ports[1]}"
        arguments = ["worker", "--dsn", self._direct, "--processes", "1"]
        self._exporter = self._started(*arguments, "--only", "http", "--http", http)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for program in (self._supervisor, self._exporter):
            program.terminate()
            program.wait(60)

    def write_config(self, orders: str = "") -> None:
        text = _CONFIG.format(dsn=self._dsn, port=self.ports[0], orders=orders)
        self.config.write_text(text)

    def write_handlers(self, text: str) -> None:
        (self.place / "orders.py").write_text(text)

    def start(self) -> None:
        self._supervisor = self._started("worker")

    def started(self) -> int:
        return sum(line["event"] == "worker_started" for line in self.said())

    def restart(self) -> None:
        """Deploy: drain, and start with the handlers that are there now."""
        self._supervisor.send_signal(signal.SIGTERM)
        self._supervisor.wait(60)
        self.start()

    def reload(self) -> None:
        self._supervisor.send_signal(signal.SIGHUP)

    def pid_in_step(self) -> int | None:
        """Return the worker whose handler began last and has not ended."""
        lines = read_all(self._logs, "steps-*.log")
        return lines[-1]["pid"] if lines and lines[-1]["what"] == "began" else None

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self._deaths.write("died", pid=pid, name="worker")

    def forget_log(self) -> None:
        """Have `said` tell only what comes after."""
        self._read = self._log.stat().st_size

    def said(self) -> list[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1].splitlines()
        return [json.loads(line) for line in whole if line.startswith(b"{")]

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator does, who has another way to the database."""
        return subprocess.run(
            [sys.executable, "-m", "pgprog", *arguments],
            cwd=self.place,
            env={**self._environment(), "PGPROG_DSN": self._direct, "PGCONNECT_TIMEOUT": "5"},
            capture_output=True,
            text=True,
            check=False,
        )

    def _started(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pgprog", *arguments],
                cwd=self.place,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _environment(self) -> dict[str, str]:
        path = f"{self.place}{os.pathsep}{ROOT}"
        steps = self._logs / "steps-night.log"
        return {**os.environ, "PYTHONPATH": path, "CHAOS_HANDLER_LOG": str(steps)}
