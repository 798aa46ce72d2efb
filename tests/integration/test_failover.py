"""A primary that dies, and a synchronous standby that is promoted under a working engine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgprog import Engine, migrate
from pgprog.config import WorkerConfig
from pgprog.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog import Namespace

WORKER = WorkerConfig(
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=3),
    heartbeat_every=timedelta(milliseconds=300),
)
CALLS = 20


@pytest.fixture
def pair() -> Iterator[tuple[EmbeddedPostgres, EmbeddedPostgres]]:
    """A primary with the schema, and the standby without which it commits nothing."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o711)
    first, second = place / "first", place / "second"
    with EmbeddedPostgres(first) as server:
        migrate(server.dsn)
    subprocess.run(["cp", "-a", first, second], check=True)
    (second / "standby.signal").touch()
    primary = EmbeddedPostgres(first, settings={"synchronous_standby_names": "*"})
    try:
        with (
            primary,
            EmbeddedPostgres(second, settings={"primary_conninfo": primary.dsn}) as standby,
        ):
            yield primary, standby
    finally:
        shutil.rmtree(place)


def either(*servers: EmbeddedPostgres) -> str:
    """Return the DSN of whichever of these takes writes."""
    given = [conninfo_to_dict(server.dsn) for server in servers]
    hosts = {name: ",".join(str(each[name]) for each in given) for name in ("host", "port")}
    return make_conninfo(servers[0].dsn, **hosts, target_session_attrs="read-write")


@pytest.mark.slow  # two servers start
async def test_a_failover_to_a_synchronous_standby_loses_no_answer_and_repeats_none(
    pair: tuple[EmbeddedPostgres, EmbeddedPostgres], counters: Namespace[Any]
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
