"""`pgprog demo` as it is run: killed, stopped, started twice, following files.

PGPROG_DEMO_PROOF=1 makes the numbers large: `make demo-proof`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner

from pgprog.cli import main
from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connection = psycopg.Connection[Any]

pytestmark = [
    pytest.mark.slow,  # each makes a database cluster and runs programs: 3 s or more
    pytest.mark.timeout(900),
]

IS_PROOF = bool(os.environ.get("PGPROG_DEMO_PROOF"))
KILLS = 20 if IS_PROOF else 3
WATCHED = 100 if IS_PROOF else 10
FAILING = 2
PROGRAM = [sys.executable, "-c", "from pgprog.cli import main; main(prog_name='pgprog')", "demo"]

ENDED = (
    "select count(*) from pgprog.processes"
    " where namespace = 'documents' and status in ('finished', 'error')"
)
INDEXED = "select count(*) from demo.texts"
TWICE = "select document from demo.texts group by document having count(*) <> 1"
INDEXED_EVENTS = (
    "select count(*) from pgprog.event_payloads"
    " where namespace = 'documents' and payload ? 'indexed'"
)


@dataclass
class Demo:
    """Programs on one home of their own, and a connection to its server."""

    home: Path
    server: DevelopmentServer

    def start(self, *words: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, *map(str, words)],
            env={**os.environ, "PGPROG_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: object) -> dict[str, Any]:
        """Run one to its end, and return what it says as JSON."""
        printed, _ = (program := self.start(*words, "--json")).communicate()
        assert program.returncode == 0, printed
        said: dict[str, Any] = json.loads(printed)
        return said

    def connect(self) -> Connection:
        return psycopg.connect(self.server.dsn, autocommit=True)


@pytest.fixture
def demo() -> Iterator[Demo]:
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o711)
    made = Demo(place / "home", DevelopmentServer(place / "home"))
    yield made
    made.server.stop()
    shutil.rmtree(place)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """150 documents, two of which cannot be read."""
    directory = tmp_path / "library"
    directory.mkdir()
    for number in range(150 - FAILING):
        suffix = ("txt", "md", "rst", "html")[number % 4]
        text = f"Chapter {number}\n\nOf locks, clocks and {'many words ' * 300}.\n"
        (directory / f"{number:03}.{suffix}").write_text(text)
    (directory / "empty.txt").touch()
    (directory / "noise.pdf").write_bytes(random.Random(1).randbytes(2000))
    return directory


def one(connection: Connection, query: str, *values: object) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]


def wait_for(condition: Callable[[], bool], *, while_runs: subprocess.Popen[str]) -> None:
    """Wait for a condition for as long as a program runs, which it must."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        try:
            while_runs.wait(0.003)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended: {while_runs.communicate()[0]}")


def wait_for_line(beginning: str, *, of: subprocess.Popen[str]) -> None:
    assert of.stdout is not None
    for line in of.stdout:
        if line.startswith(beginning):
            return
    pytest.fail(f"it ended without a line {beginning!r}")


def stop(program: subprocess.Popen[str]) -> str:
    program.send_signal(signal.SIGINT)
    return program.communicate(timeout=30)[0]


def has_ended(connection: Connection, count: int) -> bool:
    """Return whether more than *count* documents have ended."""
    return bool(one(connection, ENDED) > count)


def findings_of(demo: Demo) -> list[Any]:
    """Return what `pgprog doctor` finds directly after a run."""
    answer = CliRunner().invoke(main, ["doctor", "--dsn", demo.server.dsn, "--json"])
    findings: list[Any] = json.loads(answer.stdout)["findings"]
    return findings


def test_no_document_is_lost_or_indexed_twice_when_runs_are_killed(
    demo: Demo, library: Path
) -> None:
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    # The proof takes what the demo takes without a path.
    words = () if IS_PROOF else (library,)
    documents = 1400 if IS_PROOF else 140
    moments = sorted(random.Random(seed).sample(range(documents), KILLS))
    demo.run(library / "empty.txt")  # makes server and tables

    with demo.connect() as connection:
        for moment in moments:
            program = demo.start(*words)
            wait_for(partial(has_ended, connection, moment), while_runs=program)
            program.kill()
            program.communicate()
        said = demo.run(*words)

        assert connection.execute(TWICE).fetchall() == []
        assert one(connection, INDEXED) == one(connection, INDEXED_EVENTS) == said["indexed"]
    assert findings_of(demo) == []
    assert said["ended"] == said["found"] > documents
    assert said["indexed"] == said["found"] - said["failed"]
    assert IS_PROOF or said["failed"] == FAILING
    assert not [each for each in said["failures"] if "zombie" in each["detail"]]


def test_an_interrupted_run_ends_its_steps_and_says_how_to_go_on(demo: Demo, library: Path) -> None:
    demo.run(library / "empty.txt")
    program = demo.start(library)
    with demo.connect() as connection:
        wait_for(partial(has_ended, connection, 10), while_runs=program)

        printed = stop(program)

        assert program.returncode == 130, printed
        assert "To go on: " in printed
        assert one(connection, "select count(*) from pgprog.tasks where status = 'running'") == 0
        assert one(connection, "select count(*) from pgprog.workers") == 0
    said = demo.run(library)
    assert said["before"] >= 10
    assert said["ended"] == 150


def test_two_demos_at_once_on_a_new_server_share_the_work(demo: Demo, library: Path) -> None:
    programs = [demo.start(library, "--json") for _ in range(2)]

    said = [json.loads(program.communicate()[0]) for program in programs]

    assert [each["ended"] for each in said] == [150, 150]
    with demo.connect() as connection:
        assert connection.execute(TWICE).fetchall() == []
        assert one(connection, INDEXED) == 150 - FAILING


def test_files_that_are_renamed_into_place_are_soon_found(
    demo: Demo, library: Path, tmp_path: Path
) -> None:
    program = demo.start(library, "--watch")
    wait_for_line("Following", of=program)
    seconds = []
    with demo.connect() as connection:
        for number in range(WATCHED):
            place = library / f"new-{number}.md"
            (tmp_path / "fresh").write_text(f"# New {number}\n\n{'words and words ' * 500}")

            began_at = time.monotonic()
            (tmp_path / "fresh").rename(place)
            wait_for(partial(is_indexed, connection, place), while_runs=program)
            seconds.append(time.monotonic() - began_at)
    printed = stop(program)

    assert program.returncode == 0, printed
    seconds.sort()
    sys.stdout.write(f"median {statistics.median(seconds):.3f} s, longest {seconds[-1]:.3f} s\n")
    assert seconds[int(len(seconds) * 0.99) - 1] < 1
    assert printed.count("indexed  ") == WATCHED


def test_changed_and_deleted_files_are_followed(demo: Demo, library: Path) -> None:
    changed, deleted, beneath = library / "000.txt", library / "001.md", library / "below" / "a.txt"
    beneath.parent.mkdir()
    beneath.write_text("deep words")
    program = demo.start(library, "--watch")
    wait_for_line("Following", of=program)
    with demo.connect() as connection:
        changed.write_text("other words")
        deleted.unlink()
        shutil.rmtree(beneath.parent)

        wait_for(lambda: body_of(connection, changed) == "other words", while_runs=program)
        wait_for(lambda: not is_indexed(connection, deleted), while_runs=program)
        wait_for(lambda: not is_indexed(connection, beneath), while_runs=program)
    stop(program)


def test_what_was_deleted_while_nobody_watched_is_made_up_for(demo: Demo, library: Path) -> None:
    gone = library / "000.txt"
    demo.run(library)
    gone.unlink()

    program = demo.start(library, "--watch")
    wait_for_line("Following", of=program)

    with demo.connect() as connection:
        wait_for(lambda: not is_indexed(connection, gone), while_runs=program)
    stop(program)


def is_indexed(connection: Connection, path: Path) -> bool:
    return bool(one(connection, f"{INDEXED} where path = %s", str(path)))


def body_of(connection: Connection, path: Path) -> str:
    query = "select coalesce(min(body), '') from demo.texts where path = %s"
    return str(one(connection, query, str(path)))
