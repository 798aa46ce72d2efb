"""Errors that nobody foresees, as of a block that cannot be read: workers say so and go on."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests.integration.conftest import QUICK

from pgprog import Engine
from pgprog.engine import completer
from pgprog.errors import StepFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog import Namespace

pytestmark = pytest.mark.slow  # loops go round once a second

# What a loop of a worker asks for, and what it says when that fails.
LOOPS = {
    "claim": "claim_failed",
    "complete": "completions_failed",
    "list_workers": "collector_without_database",
    "maintain": "maintenance_failed",
    "measure_queues": "queues_not_measured",
    "renew_worker": "renewal_failed",
}
DEFINITION = (
    "select pg_get_functiondef(p.oid) from pg_proc as p"
    " where p.pronamespace = 'pgprog_engine'::regnamespace and p.proname = %s"
)
BODY = re.compile(r"AS (\$function\$).*\1", re.DOTALL)
PLPGSQL = "LANGUAGE plpgsql"
FAILS = "begin raise exception 'could not read block 5' using errcode = 'XX001'; end"
NOT_13 = f"""
create function unreadable() returns trigger language plpgsql as $$ {FAILS} $$;
create trigger unreadable before update on pgprog_data.processes
for each row when (new.state = '13') execute function unreadable();
"""


@pytest.fixture
def damaged(fresh_db: str) -> Iterator[psycopg.Connection[Any]]:
    """A database of one's own, which a test damages."""
    with psycopg.connect(fresh_db, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize(("function", "said"), LOOPS.items())
async def test_a_worker_outlives_an_error_that_nobody_foresaw(
    fresh_db: str,
    counters: Namespace[Any],
    damaged: psycopg.Connection[Any],
    caplog: pytest.LogCaptureFixture,
    function: str,
    said: str,
) -> None:
    [[works]] = damaged.execute(DEFINITION, (function,)).fetchall()
    fails = BODY.sub(f"AS $function$ {FAILS} $function$", works).replace("LANGUAGE sql", PLPGSQL)
    if function == "maintain":  # once a minute, first at the start
        damaged.execute(fails.encode())
    async with Engine(fresh_db, [counters], worker=QUICK) as engine, asyncio.timeout(30):
        await engine.init("counters", "c-1")
        damaged.execute(fails.encode())
        task = await engine.submit("call", "counters", "c-1", {"amount": 1}, name="add")
        while said not in caplog.messages:
            await asyncio.sleep(0.01)
        damaged.execute(works.encode())
        answer = await task.wait(timeout=20)
        answers = [await engine.call("counters", "c-1", {"amount": 1}, name="add"), answer]

    assert answers == [2, 1]


async def test_a_step_whose_end_the_database_cannot_write_breaks_its_process_and_no_other(
    fresh_db: str,
    counters: Namespace[Any],
    damaged: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(completer, "_TRIES_ALONE", 2)
    damaged.execute(NOT_13.encode())
    async with Engine(fresh_db, [counters], worker=QUICK) as engine:
        for name in ("bad", "good"):
            await engine.init("counters", name)
        bad = await engine.submit("call", "counters", "bad", {"amount": 13}, name="add")
        good = await engine.call("counters", "good", {"amount": 1}, name="add")
        with pytest.raises(StepFailed, match="Crashed"):
            await bad.wait(timeout=20)

    assert good == 1
