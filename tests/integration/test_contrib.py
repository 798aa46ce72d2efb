"""The bindings to frameworks, where the guides to them do not go."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import django
import fastapi
import httpx
import pytest
import sqlalchemy
from django.conf import settings
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import scoped_session, sessionmaker

from pgprog import AsyncClient, Intent, Namespace, Reject, Step, correlation_id, traceparent
from pgprog.contrib.fastapi import Pgprog, carry_request, install, lifespan
from pgprog.contrib.sqlalchemy import bind, bind_async
from pgprog.encryption import Encryption, is_sealed
from pgprog.errors import ProcessNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import psycopg
    from tests.conftest import SessionFactory
    from tests.integration.conftest import EngineFactory

pytestmark = pytest.mark.slow  # engines are opened

URL = "postgresql+psycopg://"
ENCRYPTION = Encryption(keys={"k": b"k" * 32}, current="k", fingerprint_key=b"f" * 16)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def args_of(sql: psycopg.Connection[Any]) -> bytes:
    """Return the args of the last request, as they lie in the database."""
    row = sql.execute("select args::text from pgprog_data.queue order by task_id desc").fetchone()
    assert row is not None
    return str(row[0]).encode()


@pytest.fixture
def doors() -> Namespace[Any]:
    """Processes that open when told to; a call waits for that."""
    namespace = Namespace("doors")

    @namespace.init
    async def begin(step: Step[Any]) -> None:
        return

    @namespace.call
    async def tell(step: Step[Any]) -> Intent[Any, Any]:
        return Intent(response=[correlation_id(), traceparent()])

    @namespace.call
    async def enter(step: Step[Any]) -> None:
        await asyncio.Event().wait()

    @namespace.call
    async def refuse(step: Step[Any]) -> None:
        raise Reject({"closed": True})

    @namespace.call
    async def shatter(step: Step[Any]) -> None:
        raise RuntimeError("into a thousand pieces")

    return namespace


@pytest.fixture
def database(db: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(URL, connect_args=conninfo_to_dict(db))
    yield engine
    engine.dispose()


def test_a_connection_of_core_begins_the_transaction_that_it_commits(
    database: sqlalchemy.Engine, make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    with make_engine(counters) as engine, database.connect() as connection:
        bind(connection).submit("init", "counters", "gone")
        connection.rollback()
        task_id = bind(connection).submit("init", "counters", "kept")
        connection.commit()
        engine.wait(task_id)

        assert engine.get(counters, "gone") is None
        assert engine.get(counters, "kept") is not None


async def test_an_asynchronous_connection_of_core_does_too(
    db: str, make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    database = create_async_engine(URL, connect_args=conninfo_to_dict(db))
    async with make_engine(counters) as engine, database.connect() as connection:
        await (await bind_async(connection)).submit("init", "counters", "gone")
        await connection.rollback()
        task_id = await (await bind_async(connection)).submit("init", "counters", "kept")
        await connection.commit()
        await engine.wait(task_id)

        assert await engine.get(counters, "gone") is None
        assert await engine.get(counters, "kept") is not None
    await database.dispose()


def test_the_session_of_a_scope_is_bound_as_itself(
    database: sqlalchemy.Engine, make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    scope = scoped_session(sessionmaker(database))
    with make_engine(counters) as engine:
        bind(scope).submit("init", "counters", "gone")
        scope.rollback()
        task_id = bind(scope).submit("init", "counters", "kept")
        scope.commit()
        scope.remove()
        engine.wait(task_id)

        assert engine.get(counters, "gone") is None


async def test_the_asynchronous_session_of_a_scope_is_too(
    db: str, make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    database = create_async_engine(URL, connect_args=conninfo_to_dict(db))
    scope = async_scoped_session(async_sessionmaker(database), scopefunc=asyncio.current_task)
    async with make_engine(counters) as engine:
        task_id = await (await bind_async(scope)).submit("init", "counters", "kept")
        await scope.commit()
        await scope.remove()

        assert await engine.wait(task_id) is None
    await database.dispose()


async def test_what_is_no_session_of_the_colour_is_refused(database: sqlalchemy.Engine) -> None:
    session: Any = AsyncSession(create_async_engine(URL))
    engine: Any = database

    with pytest.raises(TypeError, match="has one, not AsyncSession"):
        bind(session)
    with pytest.raises(TypeError, match="has one, not Engine"):
        await bind_async(engine)


def test_another_driver_is_refused() -> None:
    with (
        sqlalchemy.create_engine("sqlite://").connect() as connection,
        pytest.raises(TypeError, match="psycopg"),
    ):
        bind(connection)


@pytest.fixture
def _django(db: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Django on the database of the test; it is set up once a process."""
    if not settings.configured:
        settings.configure()
        django.setup()
    from django.db import connections  # noqa: PLC0415 - needs settings

    given = conninfo_to_dict(db)
    place = {key.upper(): given.get(key) or "" for key in ("user", "host", "port")}
    engine = {"ENGINE": "django.db.backends.postgresql", "NAME": given["dbname"], **place}
    monkeypatch.setattr(connections, "_settings", {"default": engine})
    monkeypatch.delattr(connections, "settings", raising=False)
    monkeypatch.setattr(settings, "PGPROG", {"dsn": db}, raising=False)
    yield
    connections["default"].close()
    del connections["default"]


@pytest.mark.usefixtures("_django")
def test_in_django_a_refusal_fails_only_the_atomic_block_around_it(
    make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    from django.db import transaction  # noqa: PLC0415 - needs settings

    from pgprog.contrib.django import bind as bind_django  # noqa: PLC0415 - needs settings

    with make_engine(counters) as engine:
        with transaction.atomic():
            task_id = bind_django().submit("init", "counters", "kept")
            with pytest.raises(ProcessNotFound), transaction.atomic():
                bind_django().submit("call", "counters", "missing", name="add")
        engine.wait(task_id)

        assert engine.get(counters, "kept") is not None


@pytest.mark.usefixtures("_django")
def test_in_django_requests_are_sealed_as_those_of_its_client_are(
    make_engine: EngineFactory,
    counters: Namespace[Any],
    monkeypatch: pytest.MonkeyPatch,
    sql: psycopg.Connection[Any],
) -> None:
    from pgprog.contrib.django import bind as bind_django  # noqa: PLC0415 - needs settings

    monkeypatch.setitem(settings.PGPROG, "encryption", ENCRYPTION)
    with make_engine(counters):
        pass
    bind_django().submit("init", "counters", "c", {"start": "secret"})

    assert is_sealed(args_of(sql))


async def test_with_sqlalchemy_requests_are_sealed_under_the_keys_that_are_given(
    database: sqlalchemy.Engine,
    db: str,
    make_engine: EngineFactory,
    counters: Namespace[Any],
    sql: psycopg.Connection[Any],
) -> None:
    async with make_engine(counters):
        pass
    with database.begin() as connection:
        bind(connection, encryption=ENCRYPTION).submit("init", "counters", "a", {"start": "secret"})
    first = args_of(sql)
    asynchronous = create_async_engine(URL, connect_args=conninfo_to_dict(db))
    async with asynchronous.begin() as connection_async:
        bound = await bind_async(connection_async, encryption=ENCRYPTION)
        await bound.submit("init", "counters", "b", {"start": "secret"})
    await asynchronous.dispose()

    assert is_sealed(first)
    assert is_sealed(args_of(sql))
    assert first != args_of(sql)


@pytest.mark.usefixtures("_django")
def test_django_has_one_client_for_a_process_of_the_server(
    make_engine: EngineFactory, counters: Namespace[Any]
) -> None:
    from pgprog.contrib.django import client, close  # noqa: PLC0415 - needs settings

    with make_engine(counters):
        client().init("counters", "c")
        answer = client().call("counters", "c", {"amount": 2}, name="add")
        same = client() is client()
        close()

    assert answer == 2
    assert same


def only_ada(who: str = "") -> None:
    if who != "ada":
        raise fastapi.HTTPException(401)


@asynccontextmanager
async def served(client: AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """An application whose endpoints ask for something with any name."""
    carries = [fastapi.Depends(carry_request)]
    app = fastapi.FastAPI(lifespan=lifespan(client), dependencies=carries)
    install(app, dependencies=[fastapi.Depends(only_ada)])

    @app.post("/doors/{door}/{name}")
    async def ask(door: str, name: str, client: Pgprog, timeout: float = 5) -> Any:
        return await client.call("doors", door, name=name, timeout=timeout)

    async with app.router.lifespan_context(app) as state:

        async def called(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(called, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as web:
            yield web


async def test_what_takes_too_long_is_accepted_and_told_of_at_its_place(
    make_engine: EngineFactory, doors: Namespace[Any], session: SessionFactory
) -> None:
    engine = make_engine(doors)
    async with served(engine) as web:
        await engine.init("doors", "d")
        session().execute("select pgprog.pause('doors', 'nobody may enter')")
        late = await web.post("/doors/d/enter", params={"timeout": "1"})
        place = late.headers["Location"]
        asked = await web.get(place, params={"wait": "0.01", "who": "ada"})
        stranger = await web.get(place)

    assert (late.status_code, asked.status_code, stranger.status_code) == (202, 202, 401)
    assert asked.json()["status"] == "waiting"


async def test_what_endpoints_ask_for_carries_the_trace_of_their_request(
    make_engine: EngineFactory, doors: Namespace[Any]
) -> None:
    engine = make_engine(doors)
    headers = {"x-request-id": "req-1", "traceparent": TRACE}
    async with served(engine) as web:
        await engine.init("doors", "d")
        told = await web.post("/doors/d/tell", headers=headers)
        odd = await web.post("/doors/d/tell", headers={"traceparent": "00-odd"})
        nothing = await web.post("/doors/d/tell")

    assert told.json() == ["req-1", TRACE]
    assert odd.json() == nothing.json() == [None, None]


async def test_errors_of_pgprog_have_their_statuses(
    make_engine: EngineFactory, doors: Namespace[Any]
) -> None:
    engine = make_engine(doors)
    async with served(engine) as web:
        await engine.init("doors", "d")
        missing = await web.post("/doors/none/enter")
        refused = await web.post("/doors/d/refuse")
        no_task = await web.get("/tasks/999999", params={"who": "ada"})
        fault = await web.post("/doors/d/shatter")

    assert (missing.status_code, missing.json()["code"]) == (404, "UP001")
    assert (refused.status_code, refused.json()["rejected"]) == (422, {"closed": True})
    assert no_task.status_code == 404
    assert (fault.status_code, fault.text) == (500, "Internal Server Error")


@pytest.mark.parametrize("is_accepted", [True, False])
async def test_an_error_in_a_websocket_is_answered_by_no_http(is_accepted: bool) -> None:
    app = fastapi.FastAPI()
    install(app)

    @app.websocket("/")
    async def follow(socket: fastapi.WebSocket) -> None:
        if is_accepted:
            await socket.accept()
        raise ProcessNotFound("no process o-1 in namespace orders")

    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/",
        "headers": [],
        "query_string": b"",
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    with pytest.raises(ProcessNotFound):
        await app(scope, receive, send)

    assert [message["type"] for message in sent] == ["websocket.accept"] * is_accepted
