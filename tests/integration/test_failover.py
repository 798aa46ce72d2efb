"""A primary that dies, and a synchronous standby that is promoted under a working engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgprog import Engine, Request, migrate
from pgprog.config import WorkerConfig
from pgprog.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import Query

    from pgprog import Namespace

Pair = tuple[EmbeddedPostgres, EmbeddedPostgres]

WORKER = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=3),
    heartbeat_every=timedelta(milliseconds=300),
)
CALLS = 20


@contextmanager
def two_servers(**settings: str) -> Iterator[Pair]:
    """A primary with the schema and these settings, and its standby."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o711)
    first, second = place / "first", place / "second"
    with EmbeddedPostgres(first) as server:
        migrate(server.dsn)
    subprocess.run(["cp", "-a", first, second], check=True)
    (second / "standby.signal").touch()
    primary = EmbeddedPostgres(first, settings=settings)
    try:
        with (
            primary,
            EmbeddedPostgres(second, settings={"primary_conninfo": primary.dsn}) as standby,
        ):
            yield primary, standby
    finally:
        shutil.rmtree(place)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A primary, and the standby without which it commits nothing."""
    with two_servers(synchronous_standby_names="*") as servers:
        yield servers


@pytest.fixture
def loose_pair() -> Iterator[Pair]:
    """A primary, and a standby that it does not wait for."""
    with two_servers() as servers:
        yield servers


def either(*servers: EmbeddedPostgres) -> str:
    """Return the DSN of whichever of these takes writes."""
    given = [conninfo_to_dict(server.dsn) for server in servers]
    hosts = {name: ",".join(str(each[name]) for each in given) for name in ("host", "port")}
    return make_conninfo(servers[0].dsn, **hosts, target_session_attrs="read-write")


async def become(server: psycopg.Connection[Any], query: Query, value: object) -> None:
    """Return when *query* answers this."""
    async with asyncio.timeout(30):
        while server.execute(query).fetchone() != (value,):
            await asyncio.sleep(0.01)


def refuse_standbys(primary: psycopg.Connection[Any]) -> None:
    [[path]] = primary.execute("select current_setting('hba_file')").fetchall()
    rules = Path(path)
    rules.write_text(f"local replication all reject\n{rules.read_text()}")
    primary.execute("select pg_reload_conf()")


def takes_standbys(dsn: str) -> bool:
    try:
        psycopg.connect(dsn, replication="true").close()
    except psycopg.OperationalError:
        return False
    return True


async def cut_off(primary: psycopg.Connection[Any], standby: psycopg.Connection[Any]) -> None:
    """Let a standby hear of all that there is, and of nothing from here on."""
    [[written]] = primary.execute("select pg_current_wal_lsn()::text").fetchall()
    heard = sql.SQL("select pg_last_wal_replay_lsn() >= {}").format(written)
    await become(standby, heard, True)
    refuse_standbys(primary)
    while takes_standbys(primary.info.dsn):
        await asyncio.sleep(0.01)
    primary.execute("select pg_terminate_backend(pid) from pg_stat_replication")
    await become(primary, "select count(*) from pg_stat_replication", 0)


@pytest.mark.slow  # two servers start
async def test_a_failover_to_a_synchronous_standby_loses_no_answer_and_repeats_none(
    pair: Pair, counters: Namespace[Any]
) -> None:
    primary, standby = pair
    answers: dict[str, list[int]] = {f"c{number}": [] for number in range(3)}

    async def call_on(engine: Engine, name: str) -> None:
        for call in range(CALLS):
            answer = await engine.call(
                "counters",
                name,
                {"amount": 1},
                name="add",
                idempotency_key=f"{name} {call}",
                timeout=60,
            )
            answers[name].append(answer)

    async with Engine(either(standby, primary), [counters], worker=WORKER) as engine:
        for name in answers:
            await engine.init("counters", name)
        calling = [asyncio.create_task(call_on(engine, name)) for name in answers]
        while min(len(done) for done in answers.values()) < CALLS // 2:
            await asyncio.sleep(0.001)
        assert primary.pid is not None
        os.kill(primary.pid, signal.SIGKILL)
        async with await psycopg.AsyncConnection.connect(standby.dsn) as connection:
            await connection.execute("select pg_promote()")
        await asyncio.gather(*calling)

    assert list(answers.values()) == [list(range(1, CALLS + 1))] * 3


@pytest.mark.slow  # two servers start
async def test_what_a_promoted_standby_had_not_heard_of_is_done_again_and_not_passed_by(
    loose_pair: Pair, counters: Namespace[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS", -1.0)  # claims pass by
    monkeypatch.setattr("pgprog.engine.passing._SLOW_SECONDS_OF_ONE", -1.0)
    primary, standby = loose_pair
    names = ["c0", "c1", "c2"]
    adds = [Request("call", "counters", name, {"amount": 1}, name="add") for name in names]
    with (
        psycopg.connect(primary.dsn, autocommit=True) as old,
        psycopg.connect(standby.dsn, autocommit=True) as new,
    ):
        async with Engine(either(standby, primary), [counters], worker=WORKER) as engine:
            for name in names:
                await engine.init("counters", name)
            old.execute("select pgprog.pause('counters', 'for the test')")
            asked: Any = await engine.submit_many(adds)
            await cut_off(old, new)
            old.execute("select pgprog.resume('counters')")
            assert [await task.wait(timeout=20) for task in asked] == [1, 1, 1]
            for count in range(2, 22):  # whose numbers of claims and tasks are given again
                asked = await engine.submit_many(adds)
                assert [await task.wait(timeout=20) for task in asked] == [count] * 3
            assert primary.pid is not None
            os.kill(primary.pid, signal.SIGKILL)
            new.execute("select pg_promote()")
            new.execute("select pgprog.resume('counters')")
            calls = "select count(*) from pgprog.tasks where type = 'call' and status = 'finished'"
            await become(new, calls, 3)
