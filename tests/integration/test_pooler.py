"""Behind pgbouncer in transaction mode, as deploy/pgbouncer sets it up."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import make_conninfo
from tests.integration.conftest import QUICK
from tests.pooler.bouncer import Bouncer

from pgprog import AsyncClient, Engine
from pgprog.cli import main
from pgprog.config import CacheSettings, PoolConfig
from pgprog.errors import StoreUnavailable
from pgprog.store.lane import Lane
from pgprog.store.names import namespaces_like
from pgprog.store.pool import connect_blocking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pgprog import Namespace

pytestmark = [
    pytest.mark.skipif(
        shutil.which("pgbouncer") is None, reason="no pgbouncer: apt-get install pgbouncer"
    ),
    pytest.mark.direct("it has a pooler of its own"),
]

PATIENT = replace(QUICK, poll_every=timedelta(hours=1))  # nothing is found by polling


@pytest.fixture
def bouncer(db: str) -> Iterator[Bouncer]:
    with Bouncer(db) as running:
        yield running


@pytest.fixture
def pooled(bouncer: Bouncer, db: str) -> str:
    return bouncer.dsn(db)


async def test_work_goes_through_the_pooler_and_listen_past_it(
    pooled: str, db: str, bouncer: Bouncer, counters: Namespace[Any], caplog: Any
) -> None:
    engine = Engine(pooled, [counters], direct_dsn=db, worker=PATIENT)
    async with engine, AsyncClient(pooled, direct_dsn=db) as client:
        async with asyncio.timeout(20):
            await client.init("counters", "p")
            added = await client.call("counters", "p", {"amount": 2}, name="add")

    assert added == 2
    assert bouncer.transactions() > 10
    assert "listen_refused" not in caplog.text


async def test_without_a_direct_connection_it_warns_polls_and_asks_postgresql(
    pooled: str, counters: Namespace[Any], sql: Any, caplog: Any
) -> None:
    cache = {"counters": CacheSettings(enabled=True)}
    streaming = replace(QUICK, wakeups="stream")
    async with (
        Engine(pooled, [counters], worker=streaming),
        AsyncClient(pooled, cache=cache) as client,
        asyncio.timeout(20),
    ):
        await client.init("counters", "p")
        await client.call("counters", "p", {"amount": 2}, name="add")
        read = await client.get("counters", "p")
        # To listen: the worker, its client and the other.  To replicate: one feed of each.
        while caplog.text.count("refused") < 5:
            await asyncio.sleep(0.01)
        heard = sql.execute(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and query like 'listen %'"
        ).fetchone()

    assert read is not None
    assert (read.state, read.source) == (2, "postgresql")
    refused = [r for r in caplog.records if "refused" in r.getMessage()]
    assert {r.fields["hint"].partition(",")[0] for r in refused} == {
        "let direct_dsn name PostgreSQL itself"
    }
    assert heard == (0,)


async def test_a_pool_that_stays_full_is_an_outage_that_passes(db: str) -> None:
    full = {"default_pool_size": "1", "query_wait_timeout": "1"}
    with Bouncer(db, settings={"auth_type": "trust", **full}) as narrow:
        dsn = narrow.dsn(db)
        async with AsyncClient(dsn, pool=PoolConfig(api=1)) as client:
            with psycopg.connect(dsn), psycopg.connect(dsn) as holder:
                holder.execute("select 1")
                with pytest.raises(StoreUnavailable, match="query_wait_timeout"):
                    await client.get("orders", "o-1")
            after = await client.get("orders", "o-1")

    assert after is None


def test_commands_prepare_nothing_and_complete_names(pooled: str, counters: Namespace[Any]) -> None:
    with Engine(pooled, [counters]):
        names = namespaces_like(pooled, "count")
    with connect_blocking(pooled, name="pgprog command") as connection:
        for _ in range(10):
            connection.execute("select %s::integer", (1,))
        prepared = connection.execute("select count(*) from pg_prepared_statements").fetchone()

    assert names == ["counters"]
    assert prepared == (0,)


def doctor(**environ: str) -> list[dict[str, Any]]:
    answer = CliRunner().invoke(main, ["doctor", "--only", "pooler", "--json"], env=environ)
    assert answer.exit_code in {0, 5}, answer.output
    found: list[dict[str, Any]] = json.loads(answer.stdout)["findings"]
    return found


def test_the_doctor_misses_a_direct_connection_only_where_it_is_needed(
    pooled: str, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGPROG_DSN", pooled)

    [missed] = doctor()
    [dead] = doctor(PGPROG_DIRECT_DSN=make_conninfo(db, host="/nowhere"))

    assert "leads to a pooler: no LISTEN and no replication" in missed["cause"]
    assert "cannot be reached" in dead["cause"]
    assert "PGPROG_DIRECT_DSN" in missed["mend"]
    assert doctor(PGPROG_DIRECT_DSN=db) == []
    assert doctor(PGPROG_WORKER_WAKEUPS="poll") == []


def test_the_deployed_settings_ask_for_a_password(db: str) -> None:
    with Bouncer(db, settings={}) as deployed:
        right = make_conninfo(deployed.dsn(db), user="postgres", password="postgres")
        with psycopg.connect(right) as connection:
            answer = connection.execute("select 1").fetchone()
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(make_conninfo(right, password="guess"))

    assert answer == (1,)


async def test_a_worker_prepares_its_statements_only_where_no_pooler_stands_between(
    pooled: str, db: str
) -> None:
    found = []
    for dsn in (db, pooled):
        lane = Lane(dsn, name="asks often")
        query = "select count(*) from pg_prepared_statements"
        found.append([await lane.fetch(query) for _ in range(4)][-1])
        await lane.close()

    assert found == [[(1,)], [(0,)]]
