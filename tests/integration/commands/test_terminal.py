"""Commands in a real terminal: what `pgprog top` draws, obeys and leaves behind."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pexpect
import pyte
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow  # each starts the program: 1 s

PROGRAM = ["-m", "pgprog"]
# It says after half a second what it says after five.
IMPATIENT = """
from pgprog.cli import main, top
top._PATIENCE_SECONDS = 0.5
main(prog_name="pgprog")
"""
_SECONDS = 30


@dataclass
class Tty:
    """A program on a terminal, and what stands on its screen."""

    child: Any
    screen: Any

    def __post_init__(self) -> None:
        self.stream = pyte.Stream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def until(self, wanted: str) -> str:
        """Return the screen once it has these words."""
        while wanted not in self.text:
            self.read()
        return self.text

    def read(self) -> None:
        try:
            self.stream.feed(self.child.read_nonblocking(65536, timeout=_SECONDS))
        except pexpect.TIMEOUT:
            pytest.fail(f"nothing came:\n{self.text}")

    def end(self) -> int:
        """Return the exit code, once all that was printed is read."""
        try:
            while True:
                self.read()
        except pexpect.EOF:
            self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture
def start(db: str) -> Iterator[Any]:
    """Starts a command on a terminal, on the database of the test."""
    begun: list[Any] = []

    def run(
        *words: str, size: tuple[int, int] = (30, 120), program: Sequence[str] = PROGRAM
    ) -> Tty:
        environ = {**os.environ, "TERM": "xterm-256color", "PGPROG_DSN": db, "COLUMNS": ""}
        child = pexpect.spawn(
            sys.executable, [*program, *words], dimensions=size, env=environ, encoding="utf-8"
        )
        begun.append(child)
        return Tty(child, pyte.Screen(size[1], size[0]))

    yield run
    for child in begun:
        child.close(force=True)


def test_top_shows_what_moves_and_what_does_not_and_q_ends_it(
    start: Any, shop: Any, terminal: Any
) -> None:
    top = start("top", "--every", "100ms")
    top.until("orders")
    terminal.type("namespace", "pause", "orders")
    shop.submit("call", "orders", "o-1", 5, name="echo")

    paused = top.until("paused")
    terminal.type("namespace", "resume", "orders")
    while "paused" in top.text:
        top.read()
    top.child.send("q")

    assert "WAITING" in paused
    assert "q ends it" in paused
    assert "OLDEST STEP" in paused  # its workers
    assert top.end() == 0
    assert top.screen.mode & {25 << 5}  # the cursor is seen again


def test_top_fits_itself_to_a_terminal_whose_size_changes(start: Any, shop: Any) -> None:
    top = start("top", "--every", "1h")
    top.until("orders")
    top.screen.resize(30, 80)
    top.child.setwinsize(30, 80)
    top.screen.reset()

    assert "orders" in top.until("orders")
    top.child.sendintr()  # Ctrl-C
    assert top.end() == 0


def test_top_on_a_small_terminal_has_a_line_for_each_row_and_room_for_every_table(
    start: Any, shop: Any, sql: Any
) -> None:
    sql.execute(
        "select pgprog_engine._create_namespace('a team/with a long name/' || number, '{}')"
        " from generate_series(1, 300) as number"
    )
    sql.execute(
        "select pgprog.init('a team/with a long name/' || number, 'p')"
        " from generate_series(1, 300) as number"
    )
    top = start("top", "--every", "1h", size=(24, 80))

    top.until("no errors")

    [more] = [line for line in top.screen.display if "more namespaces" in line]
    rows = [line for line in top.screen.display if "no worker" in line]
    assert int(more.split()[1]) + len(rows) == 301
    assert len(rows) >= 10
    assert all(row.startswith("a team/") for row in rows)
    assert len({row.split("  ")[0] for row in rows}) == len(rows)  # names differ at their ends
    assert "WAITING" in top.text
    assert "OLDEST STEP" in top.text  # its workers


@pytest.mark.direct("a pooler has other sessions for a command than those of its name")
def test_top_says_that_its_database_is_away_and_goes_on(
    start: Any, shop: Any, sql: Any, admin: Any
) -> None:
    database = sql.info.dbname
    top = start("top", "--every", "100ms")
    top.until("orders")
    admin.execute(f"alter database {database} allow_connections false".encode())
    try:
        sql.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'pgprog command%' and datname = current_database()"
        )
        top.until("what is below is old")
    finally:
        admin.execute(f"alter database {database} allow_connections true".encode())
    while "is old" in top.text:
        top.read()
    top.child.send("q")

    assert top.end() == 0


@pytest.mark.parametrize("key", ["q", "\x03"], ids=["q", "Ctrl-C"])
def test_top_says_that_its_database_stands_still_and_can_be_ended(
    key: str, start: Any, shop: Any, session: Any
) -> None:
    top = start("top", "--every", "100ms", program=["-c", IMPATIENT])
    top.until("orders")
    with session() as stranger, stranger.transaction():
        stranger.execute("lock table pgprog_data.namespaces in access exclusive mode")
        top.until("no answer; what is below is old")
        top.child.send(key)

        assert top.end() == 0


def test_lists_on_a_terminal_are_as_wide_as_it_and_lose_nothing(start: Any, shop: Any) -> None:
    for number in range(3):
        shop.submit("call", "orders", "o-1", number, name="echo").wait(timeout=10)

    listed = start("task", "list")
    code = listed.end()

    assert code == 0
    assert "TASK_ID" in listed.text
    assert listed.text.count("finished") == 4
    assert "─" in listed.text


def test_a_question_on_a_terminal_is_answered_by_a_key(start: Any, closed_shop: None) -> None:
    asked = start("process", "remove", "orders", "o-1")
    asked.until("Remove it with its history? [y/N]:")
    asked.child.sendline("n")

    assert asked.end() == 1
    assert "Aborted!" in asked.text
