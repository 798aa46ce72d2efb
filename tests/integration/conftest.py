"""Engines and workers with short leases, on the database of the test."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pgprog import Engine, Intent, Namespace, Step
from pgprog.config import WorkerConfig
from pgprog.embedded import DevelopmentServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

QUICK = WorkerConfig(
    concurrency=20,
    poll_every=timedelta(milliseconds=50),
    lease=timedelta(seconds=2),
    heartbeat_every=timedelta(milliseconds=200),
    stop_timeout=timedelta(seconds=5),
)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home for a development server, which every account can reach, unlike tmp_path."""
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o711)
    monkeypatch.setenv("PGPROG_HOME", str(place))
    yield place
    DevelopmentServer().stop()
    shutil.rmtree(place)


class EngineFactory(Protocol):
    """Makes an engine of these namespaces that is not open yet."""

    def __call__(self, *namespaces: Namespace[Any], worker: WorkerConfig = QUICK) -> Engine: ...


@pytest.fixture
def make_engine(db: str) -> EngineFactory:
    def make(*namespaces: Namespace[Any], worker: WorkerConfig = QUICK) -> Engine:
        return Engine(db, namespaces, worker=worker)

    return make


@pytest.fixture
def sql(session: Any) -> psycopg.Connection[Any]:
    """A session to look into the database with."""
    connection: psycopg.Connection[Any] = session()
    return connection


@pytest.fixture
def counters() -> Namespace[Any]:
    """Processes that count; each step writes one event."""
    namespace = Namespace("counters")

    @namespace.init
    async def begin(step: Step[Any]) -> Intent[Any]:
        return Intent(state=0, events=[{"began": True}])

    @namespace.call
    async def add(step: Step[Any], amount: int) -> Intent[Any, int]:
        total = step.state + amount
        return Intent(state=total, events=[{"added": amount}], response=total)

    @namespace.notify
    def note(step: Step[Any], amount: int) -> Intent[Any]:
        return Intent(state=step.state + amount, events=[{"noted": amount}])

    return namespace
