"""`pgprog worker --processes N`: what falls is replaced, and its tasks run again at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from tests.waiting import until

from pgprog import Client
from pgprog.config import Config, WorkerConfig
from pgprog.daemon import supervisor
from pgprog.daemon.child import Child
from pgprog.daemon.monitor import Fleet
from pgprog.daemon.notify import Notifier
from pgprog.daemon.reports import Reports
from pgprog.daemon.supervisor import Supervisor, pause_after
from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

pytestmark = pytest.mark.slow  # programs are started

PROGRAMS = Path(__file__).parent / "programs"
# No lease ends within a test: what runs again was reported by the supervisor.
CONFIG = """
dsn: "{dsn}"
worker: {{processes: {processes}, concurrency: {concurrency}, lease: 1h, stop_timeout: {stop}}}
namespaces:
  hanging: {{handlers: "{handlers}"}}
"""


class Lines:
    """The lines of JSON that come out of a pipe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.others = ""
        self._found: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, args=[pipe])
        self._thread.start()

    def wait(self, count: int, **having: object) -> list[dict[str, Any]]:
        """Return those that have these fields, once there are so many."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self._found if having.items() <= line.items()]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count)
            return found()

    def close(self) -> None:
        """Return when nobody can write any more."""
        self._thread.join()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            for line in pipe:
                with self._changed:
                    if line.startswith(b"{"):
                        self._found.append(json.loads(line))
                    else:
                        self.others += line.decode()
                    self._changed.notify_all()


class Program:
    """`pgprog worker` with the handlers of programs/hanging.py; *began* is what these print."""

    log: Lines
    began: Lines

    def __init__(self, dsn: str, place: Path) -> None:
        self.place = place
        self._dsn = dsn
        self._running: subprocess.Popen[bytes] | None = None

    def start(
        self,
        *,
        processes: int = 3,
        concurrency: int = 10,
        stop: str = "100ms",
        handlers: str = "hanging:hanging",
    ) -> subprocess.Popen[bytes]:
        config = self.place / "pgprog.yaml"
        config.write_text(
            CONFIG.format(
                dsn=self._dsn,
                processes=processes,
                concurrency=concurrency,
                stop=stop,
                handlers=handlers,
            )
        )
        command = [*["-m", "pgprog", "worker", "--log-format", "json", "--config"], str(config)]
        running = self._running = subprocess.Popen(
            [sys.executable, *command],
            cwd=PROGRAMS,
            env={
                **os.environ,
                "HANGING_PLACE": str(self.place),
                "PYTHONPATH": str(self.place),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert running.stdout is not None
        assert running.stderr is not None
        self.began, self.log = Lines(running.stdout), Lines(running.stderr)
        return running

    def release(self) -> None:
        (self.place / "released").touch()

    def close(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            for pid in {line["pid"] for line in self.began.wait(0)}:
                with suppress(ProcessLookupError):  # as it should be: they go with their supervisor
                    os.kill(pid, signal.SIGKILL)
            self.began.close()
            self.log.close()


@pytest.fixture
def program(db: str, tmp_path: Path) -> Iterator[Program]:
    made = Program(db, tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(db: str, sql: psycopg.Connection[Any]) -> Iterator[Client]:
    sql.execute("select pgprog_engine._create_namespace('hanging', '{\"step_timeout\": \"10m\"}')")
    with Client(db) as opened:
        yield opened


def hang(client: Client, *names: str) -> list[int]:
    """Queue a step that hangs for each of new processes; return the tasks."""
    for (
        name
    ) in names:  # one after another: no chain keeps a call for a worker whose places are full
        client.init("hanging", name)
    return [client.submit("call", "hanging", name, name="hang").task_id for name in names]


def all_wait(sql: psycopg.Connection[Any], task_ids: list[int]) -> bool:
    """Tell whether all wait again, and no attempt of theirs was burned."""
    rows = sql.execute(
        "select task_id, status, attempt from pgprog.tasks where status <> 'finished'"
    )
    return sorted(rows.fetchall()) == [(task_id, "waiting", 0) for task_id in task_ids]


def workers(sql: psycopg.Connection[Any]) -> list[int]:
    return [row[0] for row in sql.execute("select worker_id from pgprog.workers").fetchall()]


def wait_until_gone(sql: psycopg.Connection[Any]) -> None:
    """Return when no worker has a lease or a connection any more."""
    here = (
        "select from pg_stat_activity where datname = current_database()"
        " and application_name like 'pgprog worker%'"
    )
    until(lambda: not workers(sql) and not sql.execute(here).fetchall())


def test_the_tasks_of_a_killed_worker_run_again_before_its_lease_ends_and_nobody_elses(
    program: Program, client: Client, sql: psycopg.Connection[Any]
) -> None:
    names = [f"p{number}" for number in range(20)]
    for name in names:
        client.submit("init", "hanging", name)
    program.start()
    program.log.wait(3, event="worker_started")
    hung = hang(client, "h0", "h1", "h2", "h3", "h4", "h5")
    began = program.began.wait(6)
    victim = began[0]["pid"]
    before = set(workers(sql))
    tasks = [
        client.submit("call", "hanging", name, {"amount": 1}, name="add") for name in names * 10
    ]
    os.kill(victim, signal.SIGKILL)
    lost = [line["process_id"] for line in began if line["pid"] == victim]
    again = program.began.wait(6 + len(lost))[6:]
    program.log.wait(4, event="worker_started")
    program.release()

    assert sorted(line["process_id"] for line in again) == sorted(lost)
    assert {line["attempt"] for line in again} == {2}
    answers = {line["process_id"]: client.wait(hung[int(line["process_id"][1])]) for line in began}
    assert answers == {name: 2 if name in lost else 1 for name in answers}
    assert sorted(client.wait(task.task_id) for task in tasks) == sorted([*range(1, 11)] * 20)
    after = set(workers(sql))
    assert (len(before & after), len(after - before)) == (2, 1)
    assert victim not in {line["pid"] for line in again}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_of_a_supervisor_hands_the_steps_back_with_no_attempt_burned(
    program: Program, client: Client, sql: psycopg.Connection[Any], number: signal.Signals
) -> None:
    running = program.start(processes=2, concurrency=2)
    hung = hang(client, "h0", "h1", "h2")
    program.began.wait(3)
    running.send_signal(number)

    assert running.wait(30) == 0
    assert workers(sql) == []
    assert all_wait(sql, hung)


def test_the_workers_of_a_killed_supervisor_stop_and_hand_back(
    program: Program, client: Client, sql: psycopg.Connection[Any]
) -> None:
    running = program.start(processes=2, concurrency=1)
    hung = hang(client, "h0", "h1")
    program.began.wait(2)
    running.kill()
    wait_until_gone(sql)

    assert all_wait(sql, hung)


def test_a_worker_that_hangs_does_not_outlive_its_supervisor() -> None:
    hung = (
        "import sys; from datetime import timedelta; from pgprog.daemon import Link\n"
        "Link(int(sys.argv[1])).end_with_supervisor(within=timedelta(0))\n"
        "print('hangs', flush=True)\n"
        "while True: pass"
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-c", hung, str(theirs.fileno())]
        running = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE)
        theirs.close()
        try:
            assert running.stdout is not None
            said = running.stdout.readline()
            before = running.poll()
            ours.close()

            assert (said, before, running.wait(30)) == (b"hangs\n", None, 1)
        finally:
            running.kill()
            running.communicate()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_signal_hands_the_steps_back_without_waiting_for_them(
    program: Program, client: Client, sql: psycopg.Connection[Any], processes: int
) -> None:
    running = program.start(processes=processes, concurrency=2, stop="1d")
    program.log.wait(processes, event="worker_started")  # one that is not may be killed
    hung = hang(client, "h0", "h1")
    program.began.wait(2)
    running.send_signal(signal.SIGTERM)
    program.log.wait(processes, event="worker_stopping")
    running.send_signal(signal.SIGTERM)

    assert running.wait(30) == 128 + signal.SIGTERM
    assert workers(sql) == []
    assert all_wait(sql, hung)


def test_workers_that_fall_at_once_are_started_after_growing_pauses(program: Program) -> None:
    (program.place / "falls.py").write_text("import os\nos.abort()\n")
    running = program.start(processes=2, handlers="falls:falls")
    pauses = [fall["pause_seconds"] for fall in program.log.wait(3, event="worker_fell")]
    running.send_signal(signal.SIGTERM)

    assert running.wait(30) == 0
    assert pauses.count(0.5) <= 2  # the first of each place
    assert max(pauses) >= 1.0


def test_a_supervisor_whose_workers_cannot_start_says_why_and_ends(program: Program) -> None:
    running = program.start(processes=2, handlers="nowhere:nowhere")

    assert running.wait(30) == 1
    program.log.close()
    assert "namespaces.hanging.handlers: nowhere cannot be imported" in program.log.others
    assert "Traceback" not in program.log.others


def test_pauses_grow_to_some_seconds_and_no_further() -> None:
    assert [pause_after(falls) for falls in range(8)] == [0, 0.5, 1, 2, 4, 8, 8, 8]
    assert pause_after(10_000) == 8


class Noted(Reports):
    """Reports that tell nobody."""

    def __init__(self) -> None:
        self.dead: list[int] = []

    def add(self, worker_id: int) -> None:
        self.dead.append(worker_id)

    def wait(self, seconds: float) -> bool:
        return True


def test_a_worker_that_does_not_end_in_its_time_is_killed_and_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deaf = (
        "import socket, sys, time; line = socket.socket(fileno=int(sys.argv[1]))\n"
        "line.send(b'worker 7\\nready\\n'); time.sleep(1000)"
    )
    command = [sys.executable, "-c", deaf]
    monkeypatch.setattr(supervisor, "MARGIN_SECONDS", 0.1)
    reports = Noted()
    stopping = threading.Event()

    class Ready(Child):
        def hear(self) -> bool:
            may_say_more = super().hear()
            if self.is_ready and not stopping.is_set():
                stopping.set()
                os.kill(os.getpid(), signal.SIGTERM)
            return may_say_more

    config = Config(worker=WorkerConfig(stop_timeout=timedelta(0)))
    start = partial(Ready, command)
    supervising = Supervisor(
        start=start,
        config=config,
        read=Config,
        reports=reports,
        fleet=Fleet(1),
        manager=Notifier({}),
    )
    code = supervising.run()

    assert code == 1
    assert reports.dead == [7]


def test_a_worker_that_began_after_a_reload_has_the_stop_timeout_that_it_began_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one ends at once, the next drains for longer than that one had been let."""
    line = "import socket, sys, time; line = socket.socket(fileno=int(sys.argv[1]))\n"
    first = line + "line.send(b'ready\\n')"
    drains = "while not line.recv(1 << 16).endswith(b's'): pass\ntime.sleep(0.5)"
    monkeypatch.setattr(supervisor, "MARGIN_SECONDS", 0.1)
    configs = [Config(worker=WorkerConfig(stop_timeout=timedelta(hours=n))) for n in (0, 1)]

    class Ready(Child):
        def hear(self) -> bool:
            was_ready = self.is_ready
            may_say_more = super().hear()
            if self.is_ready and not was_ready:
                is_next = self.stop_timeout > timedelta(0)
                os.kill(os.getpid(), signal.SIGTERM if is_next else signal.SIGHUP)
            return may_say_more

    def start(config: Config) -> Child:
        program = first if config is configs[0] else f"{first}\n{drains}"
        return Ready([sys.executable, "-c", program], config)

    supervising = Supervisor(
        start=start,
        config=configs[0],
        read=lambda: configs[1],
        reports=Noted(),
        fleet=Fleet(1),
        manager=Notifier({}),
    )

    assert supervising.run() == 0


def test_freed_tasks_are_announced_though_another_death_cannot_be_reported_yet(
    db: str,
    client: Client,
    sql: psycopg.Connection[Any],
    session: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begin = "select pgprog_engine.register_worker('w', array['hanging'], array['{}'::jsonb], '1 h')"
    ids = [sql.execute(begin).fetchone()[0] for _ in range(3)]  # type: ignore[index]
    client.submit("init", "hanging", "a")
    sql.execute("select pgprog_engine.claim(%s, 1)", (ids[1],))
    listener, stranger = session(), session()
    listener.execute(f"listen {wakeups.DUE}")
    with stranger.transaction():
        held = [ids[0], ids[2]]
        stranger.execute(
            "select from pgprog_data.workers where worker_id = any (%s) for key share", (held,)
        )
        reports = Reports(db, namespaces=["hanging"])
        for worker_id in ids:
            reports.add(worker_id)
        [_] = listener.notifies(timeout=60, stop_after=1)
        said = [each for each in caplog.records if each.getMessage() == "report_failed"]
        failed = {each.__dict__["fields"]["worker_id"] for each in said}

    assert ids[2] not in failed
    assert reports.wait(60)
