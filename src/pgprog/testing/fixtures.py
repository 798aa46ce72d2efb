"""Fixtures of pytest: a PostgreSQL of the test run, a database and an engine for each test.

One line in the conftest.py of the application brings them::

    pytest_plugins = ["pgprog.testing.fixtures"]
"""

from __future__ import annotations

import os
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pgprog.client import Client, Engine
from pgprog.embedded import EmbeddedPostgres
from pgprog.store.databases import create_database, drop_database
from pgprog.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog.namespace import Namespace


class EngineFactory(Protocol):
    """Opens an engine that serves *namespaces*, for sync tests; it is closed with the test."""

    def __call__(self, *namespaces: Namespace[Any]) -> Client:
        """Return the blocking face of an engine that serves."""
        ...


@pytest.fixture(scope="session")
def pgprog_server() -> Iterator[str]:
    """The DSN of a server on which databases may be made, as its superuser.

    PGPROG_TEST_DSN names one that is there; otherwise one is started for this run.
    """
    if dsn := os.environ.get("PGPROG_TEST_DSN"):
        yield dsn
        return
    with EmbeddedPostgres(durable=False) as server:
        yield server.dsn


@pytest.fixture(scope="session")
def pgprog_template(pgprog_server: str) -> Iterator[str]:
    """The name of a database with the schema of pgprog, of which each test gets a copy.

    Override it to add the tables of the application.  Nobody may stay connected to it.
    """
    name = _name("template")
    migrate(create_database(pgprog_server, name))
    yield name
    drop_database(pgprog_server, name)


@pytest.fixture
def pgprog_dsn(pgprog_server: str, pgprog_template: str) -> Iterator[str]:
    """The DSN of a database of the test's own, with the schema of pgprog and no data."""
    name = _name("test")
    yield create_database(pgprog_server, name, template=pgprog_template)
    drop_database(pgprog_server, name)


@pytest.fixture
def pgprog_engine(pgprog_dsn: str) -> Iterator[EngineFactory]:
    """Opens engines on the test's own database.

    An async test writes ``async with Engine(pgprog_dsn, [orders])`` instead.
    """
    with ExitStack() as opened:

        def serve(*namespaces: Namespace[Any]) -> Client:
            return opened.enter_context(Engine(pgprog_dsn, namespaces))

        yield serve


def _name(purpose: str) -> str:
    return f"pgprog_{purpose}_{uuid.uuid4().hex[:12]}"
