"""The database that a command works on, and the way there and back."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pgprog.client import AsyncClient
from pgprog.config import EncryptionConfig, PoolConfig, load_access
from pgprog.embedded import DevelopmentServer
from pgprog.errors import ConfigError, NamespaceNotFound, StoreUnavailable
from pgprog.store.campaign_store import CampaignStore
from pgprog.store.faults import translated_for_people
from pgprog.store.pool import place_of
from pgprog.store.sight import SightStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from datetime import datetime

    from pgprog.encryption import Encryption
    from pgprog.store.client_store import ClientStore

S = TypeVar("S", bound="ClientStore")
T = TypeVar("T")

_NAME: Final = "pgprog command"
_POOL: Final = PoolConfig(api=1)
_CHECKOUT: Final = timedelta(seconds=2)  # of the one connection, which only a break makes wait

# Gives the command a keyword parameter *dsn*.
dsn_option = click.option(
    "--dsn",
    help="The database; default: $PGPROG_DSN, the configuration file's, the development server.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """How to connect; *origin* says who wants this one.  *direct_dsn* goes through no pooler.

    *reader* is the socket of a shared reader that keeps what is in the clear.
    """

    dsn: str
    direct_dsn: str
    origin: str | None = None
    encryption: Encryption | None = None
    reader: str | None = None

    @property
    def hint(self) -> str:
        """What to do when it cannot be reached."""
        if self.origin is None:
            return "`pgprog db start` starts the development server; --dsn names another"
        where = f"{place_of(self.dsn)} is what {self.origin} says"
        return f"{where}: does it run, and let this machine in?  --dsn names another"


def find_database(dsn: str | None) -> Database:
    """Return the database of the command line, else of the configuration, else our own server's.

    PGPROG_DSN and PGPROG_DIRECT_DSN belong to the configuration, over its file.  Faults in other
    parts of the configuration keep nobody from looking at what it has done.

    Raises:
        ConfigError: The configuration does not say where the database is.
    """
    if dsn is not None:
        keys = EncryptionConfig(keys_file=os.environ.get("PGPROG_ENCRYPTION_KEYS_FILE") or None)
        return Database(dsn=dsn, direct_dsn=dsn, origin="--dsn", encryption=keys.load())
    try:
        loaded = load_access(environ=os.environ)
    except ConfigError as e:
        e.hint = e.hint or "--dsn names a database without it"
        raise
    config = loaded.config
    if config.dsn:
        encryption = config.encryption.load()
        return Database(
            dsn=config.dsn,
            direct_dsn=config.direct_dsn or config.dsn,
            origin=loaded.origins.get("dsn", str(loaded.file)),
            encryption=encryption,
            reader=None if encryption else config.reader.socket,
        )
    own = DevelopmentServer().dsn
    return Database(dsn=own, direct_dsn=own)


def ask(dsn: str | None, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
    """Return what *work* does with a client of the database.

    Raises:
        PgprogError: What it raises; StoreUnavailable when the database cannot be reached.
    """
    database = find_database(dsn)

    async def run() -> T:
        async with AsyncClient(
            database.dsn,
            direct_dsn=database.direct_dsn,
            pool=_POOL,
            encryption=database.encryption,
        ) as client:
            return await work(client)

    return _run(run(), database=database)


def read(dsn: str | None, work: Callable[[CampaignStore], Awaitable[T]]) -> T:
    """Return what *work* reads: payloads as raw JSON, and what only operators list.

    Raises:
        PgprogError: As `ask`.
    """
    return _by_store(dsn, work, kind=CampaignStore)


def change(dsn: str | None, work: Callable[[CampaignStore], Awaitable[T]]) -> T:
    """Return what *work* tells of a change that only operators make.

    Raises:
        PgprogError: As `ask`.
    """
    return _by_store(dsn, work, kind=CampaignStore)


def listed(
    dsn: str | None,
    work: Callable[[CampaignStore], Awaitable[list[dict[str, Any]]]],
    *,
    namespace: str | None,
) -> tuple[list[dict[str, Any]], datetime]:
    """Return the rows that *work* reads, and the database's time, by which ages are told.

    Raises:
        NamespaceNotFound: There are no rows because there is no such *namespace*.
    """

    async def run(store: CampaignStore) -> tuple[list[dict[str, Any]], datetime]:
        rows = await work(store)
        if not rows and namespace is not None:
            await require_namespace(store, namespace)
        return rows, await store.now()

    return read(dsn, run)


async def require_namespace(store: ClientStore, namespace: str) -> dict[str, Any]:
    """Return the row of a namespace in the view pgprog.namespaces.

    Raises:
        NamespaceNotFound: There is none of this name.
    """
    for row in await store.namespaces(namespace=namespace):
        return row
    msg = f"no namespace {namespace}"
    raise NamespaceNotFound(msg, hint="`pgprog namespace list` has those there are")


def run_on(dsn: str | None, work: Callable[[str], Coroutine[object, object, T]]) -> T:
    """Return what *work* does with the DSN of the database, on a connection of its own.

    Raises:
        PgprogError: As `ask`.
    """
    database = find_database(dsn)
    return _run(work(database.dsn), database=database)


def watch(dsn: str | None, work: Callable[[SightStore], Awaitable[T]]) -> T:
    """Return what *work* makes of what there is to see.

    Raises:
        PgprogError: As `ask`.
    """
    return _by_store(dsn, work, kind=SightStore)


def _by_store(dsn: str | None, work: Callable[[S], Awaitable[T]], *, kind: type[S]) -> T:
    database = find_database(dsn)

    async def run() -> T:
        store = kind(
            database.dsn,
            size=1,
            checkout_timeout=_CHECKOUT,
            name=_NAME,
            encryption=database.encryption,
        )
        try:
            await store.open()
            return await work(store)
        finally:
            await store.close()

    return _run(run(), database=database)


def _run(work: Coroutine[object, object, T], *, database: Database) -> T:
    with reaching(database):
        return asyncio.run(work)


@contextmanager
def reaching(database: Database) -> Iterator[None]:
    """Have what the database refuses, and that it is not there, said with what to do."""
    try:
        with translated_for_people():
            yield
    except StoreUnavailable as e:
        e.hint = e.hint or database.hint
        raise
