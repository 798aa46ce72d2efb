"""Namespaces whose payloads lie sealed in the database."""

from __future__ import annotations

import asyncio
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.types.json import Jsonb
from tests.integration.conftest import QUICK

from pgprog import AsyncClient, Client, Engine, Intent, Namespace, Step
from pgprog.cli import main
from pgprog.client import AsyncTask
from pgprog.codec import Misfit
from pgprog.config import Config, EncryptionConfig
from pgprog.encryption import Encryption
from pgprog.engine import Worker
from pgprog.errors import (
    CallTimeout,
    IdempotencyConflict,
    InvalidArgument,
    Rejected,
    StepFailed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAMS = Path(__file__).parent / "programs"
KEYS = {"k1": b"1" * 32, "k2": b"2" * 32}
SECRET = "planted-secret"
EVERYTHING = """
select string_agg(t::text, ' ') from (
  select q::text as t from pgprog_data.queue as q
  union all select x::text from pgprog_data.tasks as x
  union all select p::text from pgprog_data.processes as p
  union all select e::text from pgprog_data.events as e
  union all select k::text from pgprog_data.keys as k
  union all select c::text from pgprog_data.campaigns as c
) as t
"""


def encryption(current: str = "k1", *known: str) -> Encryption:
    keys = {key_id: KEYS[key_id] for key_id in known or (current,)}
    return Encryption(keys=keys, current=current, fingerprint_key=b"fingerprint-key-1")


def write_keys(directory: Path) -> Path:
    """Return a file of keys as the configuration names one."""
    keys = directory / "keys.json"
    plain = {"current": "k1", "keys": {"k1": KEYS["k1"]}, "fingerprint_key": b"fingerprint-key-1"}
    keys.write_bytes(msgspec.json.encode(plain))
    return keys


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handlers of programs/travelling.py: the secret is wherever a payload may be."""
    monkeypatch.syspath_prepend(PROGRAMS)
    return importlib.import_module("travelling")


@pytest.fixture
def stored(sql: psycopg.Connection[Any]) -> Callable[[], str]:
    """Returns all that the tables hold."""

    def read() -> str:
        row = sql.execute(EVERYTHING).fetchone()
        assert row is not None
        return str(row[0])

    return read


@pytest.fixture
def ledger() -> Namespace[Any]:
    """Accounts of both colours, with a transaction of the step."""
    namespace = Namespace("ledger", history=5)

    @namespace.init
    async def begin(step: Step[Any], name: str) -> Intent[Any]:
        return Intent(state={"name": name}, events=[{"name": name}])

    @namespace.call
    async def read(step: Step[Any], name: str) -> Intent[Any, Any]:
        first = (await step.history())[0].payload
        return Intent(response=[step.state, first, name], events=[{"asked": name}])

    @namespace.call
    def read_within(step: Step[Any], name: str) -> Intent[Any, Any]:
        with step.transaction() as connection:
            connection.execute("select 1")
        return Intent(response=[step.state, step.history()[0].payload, name], state={"name": name})

    return namespace


@pytest.mark.parametrize(
    "place", ["in_loop", "in_thread", pytest.param("in_child", marks=pytest.mark.slow)]
)
async def test_no_payload_can_be_read_in_the_tables_and_all_can_by_who_has_the_key(
    db: str, program: Any, stored: Any, place: str
) -> None:
    secret = {"is": SECRET}
    namespace = getattr(program, place)
    async with Engine(db, [namespace], worker=QUICK, encryption=encryption()) as engine:
        answer = await engine.init(place, "p", secret, idempotency_key="key")
        with pytest.raises(Rejected) as caught:
            await engine.call(place, "p", {"how": "reject", **secret}, name="fail", timeout=20)
        async with asyncio.timeout(20):
            while len(await engine.history(place, "p")) < 3:
                await asyncio.sleep(0.01)
        process = await engine.get(namespace, "p", max_events=10)
        [task, *_] = await engine.trace(place, "p")
        result = await engine.result(task.task_id)

    assert answer["is"] == SECRET
    assert caught.value.payload == secret
    assert process is not None
    assert process.state == process.metadata == secret
    assert [event.payload for event in process.history][:2] == [secret, secret]
    assert process.history[0].metadata == secret
    assert task.args == secret
    assert result.response == task.response == answer
    assert SECRET not in stored()


@pytest.mark.parametrize("name", ["read", "read_within"])
async def test_a_step_reads_what_was_sealed_whatever_the_way_it_ends(
    db: str, ledger: Any, stored: Any, name: str
) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine:
        await engine.init("ledger", "p", {"name": SECRET})
        requests = [engine.call("ledger", "p", {"name": SECRET}, name=name) for _ in range(5)]
        answers = await asyncio.gather(*requests)

    assert answers == [[{"name": SECRET}, {"name": SECRET}, SECRET]] * 5
    assert SECRET not in stored()


async def test_a_rotated_key_is_written_and_the_old_one_is_still_read(
    db: str, ledger: Any, stored: Any
) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
        await engine.init("ledger", "p", {"name": "before"})
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k2", *KEYS)) as engine:
        answer = await engine.call("ledger", "p", {"name": "after"}, name="read")

    assert answer == [{"name": "before"}, {"name": "before"}, "after"]
    assert '"1.k1.' in stored()
    assert '"1.k2.' in stored()


async def test_a_worker_without_the_key_leaves_the_task_to_one_that_has_it(
    db: str, ledger: Any, caplog: pytest.LogCaptureFixture, sql: psycopg.Connection[Any]
) -> None:
    async with AsyncClient(db, encryption=encryption("k1")) as client:
        async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
            await engine.init("ledger", "p", {"name": "x"})
        async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k2")):
            task = await client.submit("call", "ledger", "p", {"name": "y"}, name="read")
            with pytest.raises(CallTimeout):
                await task.wait(timeout=1.5)
        process = await client.get("ledger", "p")
        async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")):
            answer = await task.wait(timeout=20)
        record = (await client.trace("ledger", "p"))[-1]

    assert process is not None
    assert (process.status, answer[2], record.attempt) == ("running", "y", 1)
    told = [r for r in caplog.records if r.getMessage() == "payload_cannot_be_opened"]
    assert {vars(r)["fields"]["key_id"] for r in told} == {"k1"}
    assert told[0].levelname == "ERROR"
    assert len(told) <= 5


async def test_args_that_only_look_sealed_hold_up_nobody_else(
    db: str, ledger: Any, sql: psycopg.Connection[Any]
) -> None:
    odd, plain = {"pgprog:sealed": "1.k1.abcde"}, {"name": "y"}
    call = "select pgprog.call('ledger', %s, %s, name => 'read')"
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
        await engine.init("ledger", "p", {"name": "x"})
        await engine.init("ledger", "q", {"name": "x"})
        sql.execute(call, ("p", Jsonb(odd)))
        row = sql.execute(call, ("q", Jsonb(plain))).fetchone()
        assert row is not None
        answer = await engine.wait(row[0], timeout=20)

    assert answer[2] == "y"


async def test_a_repeat_under_a_key_is_recognised_and_another_request_refused(
    db: str, ledger: Any
) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
        await engine.init("ledger", "p", {"name": "x"})
        first = await engine.submit(
            "call", "ledger", "p", {"name": "y"}, name="read", idempotency_key="key"
        )
        await first.wait()
    async with AsyncClient(db, encryption=encryption("k2", *KEYS)) as client:
        again = await client.submit(
            "call", "ledger", "p", {"name": "y"}, name="read", idempotency_key="key"
        )
        with pytest.raises(IdempotencyConflict):
            await client.submit(
                "call", "ledger", "p", {"name": "z"}, name="read", idempotency_key="key"
            )

    assert again.task_id == first.task_id


async def test_who_asks_beside_args_that_cannot_be_sealed_is_served(db: str, ledger: Any) -> None:
    deep: dict[str, Any] = {}
    for _ in range(900):  # less deep than JSON may be, and deeper than can be sealed
        deep = {"deeper": deep}
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine:
        await engine.init("ledger", "p", {"name": "x"})
        outcomes = await asyncio.gather(
            *(
                engine.submit(
                    "call", "ledger", "p", args, name="read", idempotency_key=key, timeout=5
                )
                for key, args in [("a", {"name": "y"}), ("b", deep), ("c", {"name": "z"})]
            ),
            return_exceptions=True,
        )

    assert isinstance(outcomes[1], InvalidArgument)
    assert [isinstance(each, AsyncTask) for each in outcomes] == [True, False, True]


async def test_a_bound_client_seals_too(db: str, ledger: Any, stored: Any) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine:
        await engine.init("ledger", "p", {"name": "x"})
        with psycopg.connect(db) as connection:
            task_id = engine.bind(connection).submit(
                "call", "ledger", "p", {"name": SECRET}, name="read"
            )
        answer = await engine.wait(task_id, timeout=20)

    assert answer[2] == SECRET
    assert SECRET not in stored()


def test_a_process_is_put_sealed_and_a_repeat_is_recognised(
    db: str, ledger: Any, stored: Any
) -> None:
    with Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine:
        engine.init("ledger", "p", {"name": SECRET})
        process = engine.get("ledger", "p", max_events=10)
        assert process is not None
        engine.remove("ledger", "p")
        version = engine.put(process, idempotency_key="key")
        again = engine.put(process, idempotency_key="key")
        put = engine.get("ledger", "p", max_events=10)
        assert engine.call("ledger", "p", {"name": "y"}, name="read")[0] == {"name": SECRET}

    assert version == again
    assert put is not None
    assert (put.state, put.history[0].payload) == (process.state, process.history[0].payload)
    assert SECRET not in stored()


def test_who_has_no_key_sees_sealed_payloads_and_may_give_plain_ones(
    db: str, ledger: Any, sql: psycopg.Connection[Any]
) -> None:
    with (
        Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine,
        Client(db) as stranger,
    ):
        engine.init("ledger", "p", {"name": "x"})
        seen = stranger.get("ledger", "p")
        by_sql = sql.execute("select pgprog.get('ledger', 'p') -> 'state'").fetchone()
        [task_id] = sql.execute(
            """select pgprog.call('ledger', 'p', '{"name": "plain"}', name => 'read')"""
        ).fetchone() or [0]
        answer = engine.wait(task_id, timeout=20)
        sealed = stranger.wait(task_id)

    assert seen is not None
    assert by_sql == (seen.state,)
    assert list(seen.state) == ["pgprog:sealed"]
    assert answer == [{"name": "x"}, {"name": "x"}, "plain"]
    assert list(sealed) == ["pgprog:sealed"]


def test_commands_with_the_file_of_keys_show_payloads(
    db: str, ledger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = write_keys(tmp_path)
    command = ["process", "get", "ledger", "p", "--json", "--dsn", db]
    with Engine(db, [ledger], worker=QUICK, encryption=encryption()) as engine:
        engine.init("ledger", "p", {"name": "x"})

    without = json.loads(CliRunner().invoke(main, command).stdout)
    monkeypatch.setenv("PGPROG_ENCRYPTION_KEYS_FILE", str(keys))
    with_keys = json.loads(CliRunner().invoke(main, command).stdout)

    assert list(without["state"]) == ["pgprog:sealed"]
    assert with_keys["state"] == {"name": "x"}


def test_a_campaign_seals_what_it_repairs_with(
    db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: Any
) -> None:
    frail = Namespace[Any]("frail")

    @frail.init
    def fail(step: Step[Any]) -> None:
        raise KeyError("no")

    @frail.repair
    def mend(step: Step[Any], name: str) -> Intent[Any]:
        return Intent(state=name)

    monkeypatch.setenv("PGPROG_ENCRYPTION_KEYS_FILE", str(write_keys(tmp_path)))
    command = ["process", "repair", "--all", "--namespace", "frail", "--yes", "--dsn", db]
    with Engine(db, [frail], worker=QUICK, encryption=encryption()) as engine:
        with pytest.raises(StepFailed):
            engine.init("frail", "p")
        done = CliRunner().invoke(main, [*command, json.dumps({"name": SECRET})])
        process = engine.get("frail", "p")

    assert done.exit_code == 0, done.output
    assert process is not None
    assert process.state == SECRET
    assert SECRET not in stored()


async def test_a_worker_takes_its_keys_from_the_file_of_its_configuration(
    db: str, ledger: Any, tmp_path: Path, stored: Any
) -> None:
    keys = write_keys(tmp_path)
    config = Config(dsn=db, worker=QUICK, encryption=EncryptionConfig(keys_file=str(keys)))
    async with Worker(config, [ledger]), AsyncClient(db, encryption=encryption()) as client:
        await client.init("ledger", "p", {"name": SECRET})
        process = await client.get("ledger", "p")

    assert process is not None
    assert process.state == {"name": SECRET}
    assert SECRET not in stored()


async def test_a_history_under_a_lost_key_breaks_its_process_and_says_which_key(
    db: str, ledger: Any, sql: psycopg.Connection[Any]
) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
        await engine.init("ledger", "p", {"name": "x"})
    sql.execute("update pgprog_data.processes set state = null where process_id = 'p'")
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k2")) as engine:
        with pytest.raises(StepFailed, match="event 1 is sealed under the key k1, which is not"):
            await engine.call("ledger", "p", {"name": "y"}, name="read")


async def test_a_typed_read_without_the_key_says_which_is_missing(db: str, ledger: Any) -> None:
    async with Engine(db, [ledger], worker=QUICK, encryption=encryption("k1")) as engine:
        await engine.init("ledger", "p", {"name": "x"})
    async with AsyncClient(db) as client:
        with pytest.raises(Misfit, match="sealed under the key k1, which is not here"):
            await client.get(ledger, "p")


async def test_what_is_sealed_is_kept_in_no_cache(db: str) -> None:
    cached = Namespace("cached", cache={"enabled": True})
    cached.init(lambda step: Intent(state=SECRET))
    async with Engine(db, [cached], worker=QUICK, encryption=encryption()) as engine:
        await engine.init("cached", "p")
        process = [await engine.get("cached", "p") for _ in range(3)][-1]

    assert process is not None
    assert (process.state, process.source) == (SECRET, "postgresql")
