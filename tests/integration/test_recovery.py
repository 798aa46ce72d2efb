"""A base backup with archived WAL, and the recovery of it to a point in time."""

from __future__ import annotations

import re
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog import Changed, Client, Engine, migrate
from pgprog.config import WorkerConfig
from pgprog.embedded import EmbeddedPostgres, programs
from pgprog.embedded.account import find_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog import Namespace

QUICK = WorkerConfig(lease=timedelta(seconds=1), heartbeat_every=timedelta(milliseconds=200))
MANUAL = Path(__file__).parents[2] / "docs/operations/manual.md"
COUNT_ON = """
do $$
begin
  for number in 1..200 loop
    perform pg_current_xact_id();
    commit;
  end loop;
end
$$
"""
CLAIM = """
    select pgprog_engine.claim(
      pgprog_engine.register_worker('dead', '{counters}', '{}', '10 s'), 1)"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the account of the server can write."""
    made = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    find_account().own(made)
    yield made
    shutil.rmtree(made)


def back_up(dsn: str, place: Path) -> Path:
    """Make a base backup of a running server, without the WAL: that comes from the archive."""
    account = find_account()
    bindir = programs.within_reach(programs.find_programs(), account=account, shelter=place)
    backup = place / "backup"
    done = account.run(
        *(bindir / "pg_basebackup", f"--dbname={dsn}", f"--pgdata={backup}"),
        *("--wal-method=none", "--checkpoint=fast"),
    )
    assert done.returncode == 0, done.stderr
    (backup / "recovery.signal").touch()
    return backup


def archived(archive: Path) -> dict[str, str]:
    return {"archive_mode": "on", "archive_command": f'cp "%p" "{archive}/%f"'}


def gap() -> bytes:
    """Return the statement by which the manual leaves a gap in the sequences."""
    statement: str
    [statement] = re.findall(r"```sql\n(select sequencename.*?)```", MANUAL.read_text(), re.DOTALL)
    return statement.encode()


def reached(engine: Any, position: str | None = None) -> tuple[list[str], str]:
    """Return the processes that are told of from a position on, and the next."""
    names = []
    watched = engine.watch_all("counters", position=position)
    while isinstance(found := next(watched), Changed):
        names.append(found.process_id)
    return names, found.position


@pytest.mark.slow  # a server starts, and another from its backup
def test_a_database_that_was_recovered_to_a_point_in_time_goes_on_from_there(
    place: Path, counters: Namespace[Any]
) -> None:
    archive = place / "archive"
    find_account().own(archive)
    with EmbeddedPostgres(place / "data", settings=archived(archive)) as server:
        migrate(server.dsn)
        with Engine(server.dsn, [counters]) as engine:
            engine.init("counters", "c-1")
            assert engine.call("counters", "c-1", {"amount": 1}, name="add") == 1
            backup = back_up(server.dsn, place)
            second = engine.call(
                "counters", "c-1", {"amount": 1}, name="add", idempotency_key="second"
            )
        with psycopg.connect(server.dsn, autocommit=True) as sql:
            sql.execute("select pgprog.call('counters', 'c-1', '{\"amount\": 1}', name => 'add')")
            sql.execute(CLAIM)
            sql.execute("select pg_create_restore_point('before the mistake')")
            sql.execute("select pgprog.remove('counters', 'c-1')")
            [[last]] = sql.execute("select max(task_id) from pgprog.tasks").fetchall()
            sql.execute(COUNT_ON)
        with Client(server.dsn) as client:
            _, position = reached(client)

    recovery = {
        "restore_command": f'cp "{archive}/%f" "%p"',
        "recovery_target_name": "before the mistake",
        "recovery_target_action": "promote",
        "hot_standby": "off",  # nobody connects before the promotion
    }
    with EmbeddedPostgres(backup, settings=recovery) as server:
        with psycopg.connect(server.dsn, autocommit=True) as sql:
            sql.execute(gap())
        with Engine(server.dsn, [counters], worker=QUICK) as engine:
            again = engine.call(
                "counters", "c-1", {"amount": 1}, name="add", idempotency_key="second"
            )
            after = engine.submit("call", "counters", "c-1", {"amount": 1}, name="add")
            answer = after.wait(timeout=20)
            engine.init("counters", "c-2")
            with psycopg.connect(server.dsn, autocommit=True) as sql:
                for _ in range(2):  # as far as the position, which seems to lie behind all this
                    sql.execute(COUNT_ON)
            told, _ = reached(engine, position)

    assert told == ["c-1", "c-2"], "what was told lies in a history that is lost"
    assert second == again == 2
    assert answer == 4, "behind the step that ran at that moment, which ran again"
    assert after.task_id > last + 100_000_000_000
