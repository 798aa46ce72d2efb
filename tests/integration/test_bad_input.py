"""Bad input through the clients: each its own clear error, and nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgprog import AsyncClient, Client, Finish, Intent, Namespace, Request, Step
from pgprog.errors import (
    InvalidArgument,
    NamespaceNotFound,
    PgprogError,
    ProcessExists,
    ProcessFinished,
    ProcessInError,
    ProcessNotFound,
    Rejected,
    StepFailed,
    TaskNotFound,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

COUNTED = ("queue", "tasks", "processes", "keys", "events", "timers")


@pytest.fixture
def fragile() -> Namespace[Any]:
    """Processes whose handlers answer with what cannot be stored."""
    namespace = Namespace("fragile")

    @namespace.init
    def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state={"kept": True}, events=[{"began": True}])

    @namespace.call
    def add(step: Step[Any], amount: int) -> Intent[Any, int]:
        return Intent(response=amount)

    @namespace.call("end")
    def end(step: Step[Any]) -> Intent[Any]:
        return Intent(then=Finish())

    @namespace.call("answer an object")
    def answer_an_object(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response=object(), events=[{"lost": True}])

    @namespace.call("answer NUL")
    def answer_nul(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response={"text": "a\0b"})

    @namespace.call("answer NaN")
    def answer_nan(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response=[float("nan")])

    @namespace.call("answer too much")
    def answer_too_much(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response="a" * (1 << 21))

    @namespace.call("state of a set of objects")
    def state_of_objects(step: Step[Any]) -> Intent[Any]:
        return Intent(state={object()})

    @namespace.call("a dict")
    def return_a_dict(step: Step[Any]) -> Any:
        return {"state": 1}

    return namespace


@pytest.fixture
async def engine(make_engine: Any, fragile: Namespace[Any]) -> AsyncIterator[Any]:
    """An engine with the running process f-1."""
    async with make_engine(fragile) as engine:
        await engine.init("fragile", "f-1")
        yield engine


@pytest.fixture
async def client(db: str, engine: Any) -> AsyncIterator[AsyncClient]:
    """A mere client, which knows nothing of the namespace's limits."""
    async with AsyncClient(db) as client:
        yield client


@pytest.fixture
def count(session: Any) -> Any:
    """Return how many rows there are of all that a request may leave behind."""
    connection = session()

    def count() -> dict[str, int]:
        [row] = connection.execute(
            psycopg.sql.SQL("select {}").format(
                psycopg.sql.SQL(", ").join(
                    psycopg.sql.SQL("(select count(*) from {})").format(
                        psycopg.sql.Identifier("pgprog_data", table)
                    )
                    for table in COUNTED
                )
            )
        ).fetchall()
        return dict(zip(COUNTED, row, strict=True))

    return count


BAD: list[tuple[dict[str, Any], type[PgprogError], str]] = [
    ({"namespace": "nowhere"}, NamespaceNotFound, "no namespace nowhere"),
    ({"process_id": "f-9"}, ProcessNotFound, "no process f-9 in namespace fragile"),
    ({"type": "init"}, ProcessExists, "process f-1 in namespace fragile exists"),
    ({"type": "remove"}, InvalidArgument, "type is 'remove'"),
    ({"process_id": "é" * 150}, InvalidArgument, "process_id has 300 bytes, and the limit is 256"),
    ({"process_id": ""}, InvalidArgument, "process_id is empty"),
    ({"process_id": "a\0b"}, InvalidArgument, "process_id holds a NUL character"),
    ({"process_id": "a\ud800"}, InvalidArgument, "process_id holds the lone surrogate U+D800"),
    ({"process_id": 7}, InvalidArgument, "process_id must be text, not int"),
    ({"namespace": "a\0b"}, InvalidArgument, "namespace holds a NUL character"),
    ({"name": "a\0b"}, InvalidArgument, "name holds a NUL character"),
    ({"name": "\udfff"}, InvalidArgument, "name holds the lone surrogate U+DFFF"),
    ({"idempotency_key": "k\0"}, InvalidArgument, "idempotency_key holds a NUL character"),
    ({"idempotency_key": "\ud800"}, InvalidArgument, "idempotency_key holds the lone surrogate"),
    ({"idempotency_key": "k" * 257}, InvalidArgument, "idempotency_key has 257 bytes"),
    ({"idempotency_key": ""}, InvalidArgument, "idempotency_key is empty"),
    ({"args": {"a": "b\0"}}, InvalidArgument, r"args: a NUL character at `$.a`"),
    ({"args": {"b\0": 1}}, InvalidArgument, "args: a NUL character at"),
    ({"args": ["\udc00"]}, InvalidArgument, "args: the lone surrogate U+DC00 at `$[0]`"),
    ({"args": {"a": float("nan")}}, InvalidArgument, "args: nan at `$.a`"),
    ({"args": [1, float("inf")]}, InvalidArgument, "args: inf at `$[1]`"),
    ({"args": object()}, InvalidArgument, "args: no JSON form"),
    ({"context": {"a": float("nan")}}, InvalidArgument, "context: nan at `$.a`"),
    ({"context": "b\0"}, InvalidArgument, "context: a NUL character"),
    ({"priority": 1_000_001}, InvalidArgument, "priority is 1000001, -1000000 to 1000000"),
    ({"priority": 1.5}, InvalidArgument, "priority is 1.5"),
    ({"run_at": datetime(2030, 1, 1)}, InvalidArgument, "a datetime with a time zone is needed"),  # noqa: DTZ001 - the fault
    ({"run_at": "2030-01-01T00:00:00Z"}, InvalidArgument, "a datetime with a time zone"),
    (
        {"run_at": datetime.max.replace(tzinfo=UTC)},
        InvalidArgument,
        "a time from 1970 to 9998 is needed",
    ),
    ({"run_at": datetime(1969, 1, 1, tzinfo=UTC)}, InvalidArgument, "a time from 1970 to 9998"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD)
async def test_bad_input_is_named_and_changes_nothing(
    engine: Any, client: AsyncClient, count: Any, given: Any, error: Any, message: str
) -> None:
    request = {"type": "call", "namespace": "fragile", "process_id": "f-1", **given}
    before = count()

    [by_engine] = await engine.submit_many([Request(**request)])
    [by_client] = await client.submit_many([Request(**request)])

    assert type(by_engine) is type(by_client) is error
    assert message in str(by_engine)
    assert str(by_engine) == str(by_client)
    assert count() == before


async def test_args_of_twenty_megabytes_are_refused_with_both_sizes(
    engine: Any, client: AsyncClient, count: Any
) -> None:
    args, before = {"text": "a" * 20_000_000}, count()

    with pytest.raises(InvalidArgument, match=r"args: 200000\d\d bytes, and the limit is 1048576"):
        await engine.call("fragile", "f-1", args, name="add")
    with pytest.raises(InvalidArgument, match=r"args have .* bytes, at most 1048576 are allowed"):
        await client.call("fragile", "f-1", args, name="add")

    assert count() == before


async def test_bad_input_hinders_none_of_the_requests_beside_it(client: AsyncClient) -> None:
    good = Request("call", "fragile", "f-1", {"amount": 1}, name="add")
    bad = Request("call", "fragile", "f-1", {"amount": float("nan")}, name="add")
    absent = Request("call", "fragile", "f-9", None, name="add")

    first, *refused, last = await client.submit_many([good, bad, absent, good])

    assert [type(error) for error in refused] == [InvalidArgument, ProcessNotFound]
    assert not isinstance(first, PgprogError)
    assert not isinstance(last, PgprogError)
    assert await first.wait() == await last.wait() == 1


class Broken(Mapping[str, Any]):
    """A payload whose own code fails."""

    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError


async def test_what_is_no_request_is_told_before_any_is_sent(
    client: AsyncClient, sql: psycopg.Connection[Any]
) -> None:
    good = Request("call", "fragile", "f-1", {"amount": 1}, name="add")
    requests: Any = [*[good] * 1000, {"type": "call"}]
    with pytest.raises(TypeError, match=r"requests\[1000\] is dict"):
        await client.submit_many(requests)

    assert sql.execute("select from pgprog.tasks where name = 'add'").fetchall() == []


async def test_a_payload_whose_code_fails_hinders_none_of_the_requests_beside_it(
    client: AsyncClient,
) -> None:
    good = Request("call", "fragile", "f-1", {"amount": 1}, name="add")
    bad = Request("call", "fragile", "f-1", Broken(), name="add")

    *sent, refused, last = await client.submit_many([*[good] * 300, bad, good])

    assert isinstance(refused, InvalidArgument)
    assert isinstance(refused.__cause__, ZeroDivisionError)
    assert not any(isinstance(each, PgprogError) for each in (*sent, last))


@pytest.mark.parametrize(
    "args", [None, {}, {"amount": "one"}, {"amount": 1, "more": 2}, [1], "amount"]
)
async def test_args_that_do_not_fit_the_handler_are_rejected_and_the_process_is_untouched(
    engine: Any, args: Any
) -> None:
    before = await engine.get("fragile", "f-1")

    with pytest.raises(Rejected) as caught:
        await engine.call("fragile", "f-1", args, name="add")

    assert ".add: " in str(caught.value.payload)
    after = await engine.get("fragile", "f-1")
    assert (after.status, after.state, after.history) == (
        before.status,
        before.state,
        before.history,
    )


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("answer an object", "response: no JSON form"),
        ("answer NUL", "response: a NUL character at `$.text`"),
        ("answer NaN", "response: nan at `$[0]`"),
        ("answer too much", "response: 2097154 bytes, and the limit is 1048576"),
        ("state of a set of objects", "state: no JSON form"),
        ("a dict", "dict"),
    ],
)
async def test_an_intent_that_cannot_be_stored_fails_its_own_step_and_names_the_field(
    engine: Any, name: str, fault: str
) -> None:
    with pytest.raises(StepFailed) as caught:
        await engine.call("fragile", "f-1", name=name)

    broken = await engine.get("fragile", "f-1", max_events=10)
    assert fault in caught.value.detail
    assert broken.status == "error"
    assert fault in broken.detail
    assert broken.state == {"kept": True}
    assert [event.payload for event in broken.history] == [{"began": True}]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("a dict", ProcessInError, "process f-1 in namespace fragile is in error"),
        ("end", ProcessFinished, "process f-1 in namespace fragile is finished"),
    ],
)
async def test_a_broken_and_a_finished_process_take_no_calls(
    engine: Any, client: AsyncClient, count: Any, name: str, error: Any, message: str
) -> None:
    task = await engine.submit("call", "fragile", "f-1", name=name)
    await engine.wait_ended(task.task_id)
    before = count()

    for asking in (engine, client):
        for type_ in ("call", "notify"):
            with pytest.raises(error, match=message):
                await asking.submit(type_, "fragile", "f-1", idempotency_key="k")

    assert count() == before


async def test_reads_of_what_is_not_there_say_so(client: AsyncClient) -> None:
    assert await client.get("fragile", "f-9") is None
    with pytest.raises(ProcessNotFound, match="no process f-9 in namespace fragile"):
        await client.history("fragile", "f-9")
    with pytest.raises(NamespaceNotFound, match="no namespace nowhere"):
        await client.trace("nowhere", "f-1")
    with pytest.raises(TaskNotFound, match="99999"):
        await client.wait(99999)
    with pytest.raises(TaskNotFound, match="99999"):
        await client.cancel(99999)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"process_id": "a\0"}, "process_id holds a NUL character"),
        ({"process_id": "\ud800"}, "process_id holds the lone surrogate"),
        ({"max_events": -1}, "max_events is -1, 0 to 2147483647 are allowed"),
        ({"max_events": 1 << 40}, "max_events is 1099511627776"),
        ({"max_events": None}, "max_events is None"),
        ({"after": 1 << 70}, "after is 1180591620717411303424"),
        ({"after": "1"}, "after is '1'"),
        ({"direction": "up", "max_events": 1}, "direction"),
    ],
)
async def test_reads_refuse_what_they_cannot_ask_for(
    client: AsyncClient, given: dict[str, Any], message: str
) -> None:
    options = {"namespace": "fragile", "process_id": "f-1", **given}
    with pytest.raises(InvalidArgument, match=message):
        await client.get(**options)
    with pytest.raises(InvalidArgument, match=message):
        await client.history(**options)


@pytest.mark.parametrize("task_id", [0, -1, 1 << 63, 1 << 70])
async def test_a_number_that_is_no_task_is_not_found(client: AsyncClient, task_id: int) -> None:
    with pytest.raises(TaskNotFound, match=str(task_id)):
        await client.result(task_id)
    with pytest.raises(TaskNotFound, match=str(task_id)):
        await client.cancel(task_id)
    with pytest.raises(TaskNotFound, match=str(task_id)):
        await client.wait(task_id)


@pytest.mark.parametrize("version", ["x", True, 1.5, -1, 1 << 63])
async def test_a_version_that_can_be_none_is_refused_and_removes_nothing(
    client: AsyncClient, version: Any
) -> None:
    with pytest.raises(InvalidArgument, match="version is"):
        await client.remove("fragile", "f-1", version=version)

    assert await client.get("fragile", "f-1") is not None


async def test_a_time_out_greater_than_any_float_is_for_ever(client: AsyncClient) -> None:
    assert await client.call("fragile", "f-1", {"amount": 1}, name="add", timeout=10**400) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
async def test_a_time_out_that_is_none_is_refused_before_anything_is_sent(
    client: AsyncClient, count: Any, timeout: Any
) -> None:
    before = count()

    with pytest.raises(InvalidArgument, match="timeout is"):
        await client.call("fragile", "f-1", {"amount": 1}, name="add", timeout=timeout)

    assert count() == before


@pytest.fixture
def blocking(db: str, engine: Any) -> Iterator[Client]:
    with Client(db) as blocking:
        yield blocking


async def test_the_blocking_client_names_the_same_faults(blocking: Client) -> None:
    with pytest.raises(InvalidArgument, match="args: nan"):
        blocking.call("fragile", "f-1", float("nan"))
    with pytest.raises(ProcessNotFound, match="no process f-9"):
        blocking.notify("fragile", "f-9")


@pytest.mark.parametrize("run_at", ["infinity", "-infinity", "9999-12-31 00:00Z", "1969-01-01 Z"])
async def test_sql_refuses_times_that_no_datetime_can_hold(
    engine: Any, session: Any, count: Any, run_at: str
) -> None:
    connection, before = session(), count()

    with pytest.raises(psycopg.Error, match=r"run_at is .*, a time from 1970 to 9998") as caught:
        connection.execute(
            "select pgprog.call('fragile', 'f-1', run_at => %s::timestamptz)", (run_at,)
        )

    assert caught.value.sqlstate == "UP010"
    assert count() == before


@pytest.mark.parametrize(
    ("given", "error", "message"), [bad for bad in BAD if "type" not in bad[0]]
)
async def test_a_submission_on_the_callers_own_connection_is_checked_the_same(
    client: AsyncClient, session: Any, count: Any, given: Any, error: Any, message: str
) -> None:
    bound, before = client.bind(session()), count()

    with pytest.raises(error) as caught:
        bound.submit("call", **{"namespace": "fragile", "process_id": "f-1", **given})

    assert message in str(caught.value)
    assert count() == before
