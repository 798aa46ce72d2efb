"""A peer's program from outside, and its databases."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bench.question import NoAnswerError
from bench.workload import EVENT, NOTE, STATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers.known import Peer
    from bench.question import Sizes
    from bench.server import Arena

ROOT = Path(__file__).parents[2]
_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_START_SECONDS = 60.0
_MADE_BY_HAND = """
create schema by_hand;
create table by_hand.states (number integer primary key, state jsonb not null)
with (fillfactor = 50);
create table by_hand.events (
  event_id bigint generated always as identity primary key, number integer not null,
  at timestamptz not null default clock_timestamp(), payload jsonb not null);
insert into by_hand.states select n, %(state)s::jsonb
from generate_series(0, %(processes)s - 1) as n;
"""


class Program:
    """One action of a peer's adapter, in the environment that the peer is installed in.

    Raises:
        NoAnswerError: It ended, or said nothing for too long; bench/results has its log.
    """

    def __init__(self, peer: Peer, action: str, dsn: str, **options: object) -> None:
        self._what = f"{peer.name} {action}"
        given = {
            "dsn": url(dsn),
            "note": NOTE,
            "state": STATE.decode(),
            "event": EVENT.decode(),
            **options,
        }
        python = sys.executable if peer.is_ours else str(_PYTHON)
        self._errors = (ROOT / "bench" / "results" / f"{peer.name}.log").open("a+b")
        self._process = subprocess.Popen(
            [python, "-m", "bench.peers.program", peer.name, action, json.dumps(given)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._answers: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hear(self, word: str, *, seconds: float = _START_SECONDS) -> dict[str, Any]:
        """Wait for the answer with this word, and return it; others are passed by."""
        found = self.hear_within(word, seconds=seconds)
        if found is None:
            msg = f"{self._what}: no {word} within {seconds:.0f} s"
            raise NoAnswerError(msg)
        return found

    def hear_within(self, word: str, *, seconds: float) -> dict[str, Any] | None:
        """Do the same, and return None where it does not come in time."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=left)
                if answer is None:
                    msg = f"{self._what}: it ended; bench/results has its log"
                    raise NoAnswerError(msg)
                if word in answer:
                    return answer
        return None

    def say(self, word: str) -> None:
        """Let it go on."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(f"{word}\n")
                self._process.stdin.flush()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            with contextlib.suppress(json.JSONDecodeError):
                self._answers.put(json.loads(line))
        self._answers.put(None)


def versions() -> dict[str, str]:
    """Return what is installed for the peers, and the version of their Python.

    Raises:
        FileNotFoundError: Nothing is; `make .venv-peers` installs it.
    """
    asking = (
        "import importlib.metadata as m, json, platform;"
        "print(json.dumps({d.name: d.version for d in m.distributions()}"
        " | {'python': platform.python_version()}))"
    )
    done = subprocess.run([_PYTHON, "-c", asking], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def installed(arena: Arena, peer: Peer, sizes: Sizes) -> Iterator[str]:
    """Give a database with the schema of a peer, and the tables for writing by hand."""
    template = f"bench_{peer.name}_{os.getpid()}"
    with psycopg.connect(arena.dsn, autocommit=True) as admin:
        known = "select count(*) from pg_database where datname = %s"
        is_made = admin.execute(known, (template,)).fetchone() != (0,)
    if not is_made:
        with arena.made(template) as dsn:
            with Program(peer, "install", dsn, processes=sizes.jobs) as program:
                program.hear("done")
            with psycopg.connect(dsn) as connection, psycopg.ClientCursor(connection) as cursor:
                values = {"state": STATE.decode(), "processes": sizes.jobs}
                cursor.execute(_MADE_BY_HAND, values)
    with arena.database(template=template) as dsn:
        yield dsn


def url(dsn: str) -> str:
    """Return a DSN as the URL that every driver reads; our servers listen on Unix sockets."""
    parts = conninfo_to_dict(dsn)
    host, port = str(parts["host"]), parts.get("port", "5432")
    return (
        f"postgresql://{parts['user']}@/{parts['dbname']}?host={quote(host, safe='/')}&port={port}"
    )


def enqueue(peer: Peer, dsn: str, *, count: int, lead: float | None = None) -> dict[str, float]:
    """Enqueue jobs by the peer's call for many, which are due when *lead* seconds have passed.

    Return due_at and over_at, when the call was through, in epoch seconds.
    """
    with Program(peer, "enqueue_many", dsn, count=count, lead=lead) as program:
        return program.hear("over_at", seconds=600)


def load(peer: Peer, dsn: str, *, count: int) -> None:
    """Let so many jobs wait; the rows are cloned where the peer's own call is slow."""
    enqueue(peer, dsn, count=1 if peer.clone else count)
    if peer.clone and count > 1:
        execute(dsn, peer.clone, count=count - 1)


def start(worker: Program, peer: Peer, dsn: str) -> None:
    """Let a worker begin, and wait until it has run a job: it is up then."""
    worker.hear("ready")
    enqueue(peer, dsn, count=1)
    worker.say("go")
    worker.hear("first")


def execute(dsn: str, statement: str, *, count: int) -> int:
    """Run a statement of a peer; return the number it gives, if any."""
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(statement.encode(), {"count": count})
        row = cursor.fetchone() if cursor.description else None
    return int(row[0]) if row else 0
