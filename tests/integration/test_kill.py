"""Workers that are killed: nothing is lost, nothing is done twice, the order is kept."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

PROGRAMS = Path(__file__).parent / "programs"
CONFIG = """
dsn: "{dsn}"
worker: {{concurrency: 50, poll_every: 50ms, lease: 1s, heartbeat_every: 200ms}}
namespaces:
  ledger: {{handlers: "ledger:ledger"}}
"""


class Workers:
    """Worker daemons in processes of their own."""

    def __init__(self, dsn: str, place: Path) -> None:
        self.log = place / "ledger.log"
        self.log.touch()
        self.killed: set[int] = set()
        self._config = place / "pgprog.yaml"
        self._config.write_text(CONFIG.format(dsn=dsn))
        self._stderr = (place / "workers.log").open("ab")
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, **environ: str) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pgprog", "worker", "--config", str(self._config)],
            cwd=PROGRAMS,
            env={**os.environ, "LEDGER_LOG": str(self.log), **environ},
            stderr=self._stderr,
        )
        self.running.append(worker)
        return worker

    def kill_one(self) -> None:
        """Kill a worker as the kernel would, and start another in its place."""
        worker = self.running.pop(random.randrange(len(self.running)))
        worker.kill()
        worker.wait()
        self.killed.add(worker.pid)
        self.start()

    def stop(self) -> None:
        for worker in self.running:
            worker.send_signal(signal.SIGTERM)
        for worker in self.running:
            worker.wait(30)
        self._stderr.close()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def workers(db: str, tmp_path: Path) -> Iterator[Workers]:
    made = Workers(db, tmp_path)
    yield made
    made.stop()


def call_all(
    dsn: str, *, processes: list[list[str]], calls: int, opened: ExitStack, **environ: str
) -> list[subprocess.Popen[bytes]]:
    """Start a client program for each list of processes; return when all calls are submitted."""
    callers = [
        opened.enter_context(
            subprocess.Popen(
                [sys.executable, str(PROGRAMS / "caller.py"), dsn, str(calls), *names],
                env={**os.environ, **environ},
                stdout=subprocess.PIPE,
            )
        )
        for names in processes
    ]
    for caller in callers:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"submitted\n"
    return callers


def answers_of(callers: list[subprocess.Popen[bytes]]) -> dict[str, list[int]]:
    answers: dict[str, list[int]] = {}
    for caller in callers:
        out, _ = caller.communicate(timeout=150)
        answers.update(json.loads(out))
    return answers


def make_processes(sql: psycopg.Connection[Any], count: int) -> list[str]:
    names = [f"p{number}" for number in range(count)]
    sql.execute("select pgprog_engine._create_namespace('ledger', '{}')")
    sql.execute("select pgprog.init('ledger', name) from unnest(%s::text[]) as x(name)", (names,))
    return names


def ended_calls(sql: psycopg.Connection[Any]) -> int:
    [[count]] = sql.execute(
        "select count(*) from pgprog.tasks where type = 'call' and status = 'finished'"
    ).fetchall()
    return int(count)


def check_order(lines: list[dict[str, Any]], *, killed: set[int]) -> None:
    """Check I1 and I2 by what the handlers logged themselves."""
    last: dict[str, dict[str, Any]] = {}
    started: dict[str, list[int]] = defaultdict(list)
    for line in lines:
        before = last.get(line["process_id"])
        if line["what"] == "start":
            started[line["process_id"]].append(line["task_id"])
            if before is not None and before["what"] == "start":
                assert before["pid"] in killed, f"{before} was running when {line} began"
        last[line["process_id"]] = line
    for process_id, task_ids in started.items():
        assert task_ids == sorted(task_ids), f"{process_id} ran out of order"


@pytest.mark.slow  # each kill waits for a lease to end
@pytest.mark.timeout(240)
def test_every_call_is_answered_once_and_in_order_whatever_workers_are_killed(
    db: str, sql: psycopg.Connection[Any], workers: Workers
) -> None:
    names = make_processes(sql, 50)
    workers.start()
    workers.start()
    with ExitStack() as opened:
        callers = call_all(db, processes=[names[:25], names[25:]], calls=200, opened=opened)
        for kill in range(8):
            while ended_calls(sql) < kill * 1000:
                time.sleep(0.05)  # to count thousands takes a core from those who end them
            workers.kill_one()
        answers = answers_of(callers)

    assert answers == {name: [*range(1, 201)] for name in names}
    histories = sql.execute(
        "select process_id, array_agg(event_id order by event_id) from pgprog.event_payloads"
        " group by process_id"
    ).fetchall()
    assert dict(histories) == {name: [*range(1, 202)] for name in names}
    check_order(workers.lines(), killed=workers.killed)


@pytest.mark.slow  # each death waits for a lease to end
def test_a_step_that_kills_what_it_runs_in_breaks_its_process_and_kills_one_worker(
    sql: psycopg.Connection[Any], workers: Workers
) -> None:
    [name] = make_processes(sql, 1)
    sql.execute("select pgprog.call('ledger', %s, name => 'kill')", (name,))
    deaths = 0
    status = "select status, detail from pgprog.processes"
    while sql.execute(status).fetchall() != [("error", "zombie detected")]:
        if all(worker.poll() is not None for worker in workers.running):
            deaths += len(workers.running) > 0
            workers.running.clear()
            workers.start()

    # The first takes its worker along, too quick to be known to have begun; the others a child.
    assert deaths == 1


@pytest.mark.slow  # programs are started
def test_clocks_of_clients_and_workers_and_session_time_zones_do_not_matter(
    db: str, sql: psycopg.Connection[Any], workers: Workers
) -> None:
    names = make_processes(sql, 4)
    shifted = {"PYTHONPATH": str(PROGRAMS / "shifted_clock"), "PGTZ": "Europe/Moscow"}
    for _ in range(2):
        workers.start(**shifted)
    with ExitStack() as opened:
        answers = answers_of(call_all(db, processes=[names], calls=5, opened=opened, **shifted))

    assert answers == {name: [*range(1, 6)] for name in names}
    [[early, late]] = sql.execute(
        "select count(*) filter (where at < now() - interval '5 minutes'),"
        " count(*) filter (where at > now()) from pgprog.event_payloads"
    ).fetchall()
    assert (early, late) == (0, 0)
    assert [line["attempt"] for line in workers.lines()] == [1] * 40
