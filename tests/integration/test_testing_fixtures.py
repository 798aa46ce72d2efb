"""The fixtures that pgprog.testing gives to applications."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgprog import Engine, Intent, Namespace, Step
from pgprog.errors import NamespaceNotFound
from pgprog.testing.fixtures import (
    EngineFactory,
    pgprog_dsn,
    pgprog_engine,
    pgprog_server,
    pgprog_template,
)

if TYPE_CHECKING:
    from pgprog import Client

__all__ = ["pgprog_dsn", "pgprog_engine", "pgprog_server", "pgprog_template"]

hello = Namespace("hello", state=int)


@hello.init
def begin(step: Step[int]) -> Intent[int]:
    return Intent(state=0)


@hello.call
async def greet(step: Step[int], name: str) -> Intent[int, str]:
    return Intent(state=step.state + 1, response=f"{name} {step.state + 1}")


@pytest.fixture
def engine(pgprog_engine: EngineFactory) -> Client:
    return pgprog_engine(hello)


@pytest.mark.parametrize("name", ["Ada", "Bob"])
def test_each_test_has_a_database_of_its_own(engine: Client, name: str) -> None:
    engine.init(begin, "world")

    assert engine.call(greet, "world", name=name) == f"{name} 1"


async def test_an_async_test_opens_its_engine_itself(pgprog_dsn: str) -> None:
    async with Engine(pgprog_dsn, [hello]) as engine:
        await engine.init(begin, "world")

        assert await engine.call(greet, "world", name="Ada") == "Ada 1"


def test_an_engine_that_serves_nothing_knows_no_namespace(pgprog_engine: EngineFactory) -> None:
    with pytest.raises(NamespaceNotFound):
        pgprog_engine().init("hello", "world")
