"""A listening connection hears all that was notified, and is opened again when it was lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import psycopg

_ENDED = "select pg_notify('pgprog_ended', %s)"
_CUT = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and query = 'listen pgprog_ended'"
)

Heard = asyncio.Queue[tuple[str, str]]


@asynccontextmanager
async def _listening(dsn: str) -> AsyncIterator[Heard]:
    """Listen to both channels, and give what is heard behind the first look."""
    heard: Heard = asyncio.Queue()
    listener = asyncio.create_task(
        wakeups.listen(
            dsn,
            channels=(wakeups.DUE, wakeups.ENDED),
            hear=lambda channel, payload: heard.put_nowait((channel, payload)),
            name="test",
        )
    )
    try:
        await _looks_at_all(heard)
        yield heard
    finally:
        listener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener


async def _next(heard: Heard) -> tuple[str, str]:
    async with asyncio.timeout(20):
        return await heard.get()


async def _looks_at_all(heard: Heard) -> None:
    assert [await _next(heard), await _next(heard)] == [(wakeups.DUE, ""), (wakeups.ENDED, "")]


async def test_all_that_comes_at_once_is_heard_in_order(
    db: str, sql: psycopg.Connection[Any]
) -> None:
    payloads = [f"{number},ä" for number in range(500)]

    async with _listening(db) as heard:
        with sql.transaction():
            for payload in payloads:
                sql.execute(_ENDED, (payload,))
        told = [await _next(heard) for _ in payloads]

    assert told == [(wakeups.ENDED, payload) for payload in payloads]


async def test_a_lost_listener_is_opened_again_looks_at_all_and_hears_on(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_RECONNECT_SECONDS", 0.0)

    async with _listening(db) as heard:
        for number in range(3):
            sql.execute(_CUT)
            await _looks_at_all(heard)
            sql.execute(_ENDED, (str(number),))
            assert await _next(heard) == (wakeups.ENDED, str(number))


async def test_the_socket_of_a_lost_listener_is_left_to_whoever_has_its_number_next(
    db: str, sql: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq closes it, and the next connection is given the same number: both are heard."""
    monkeypatch.setattr(wakeups, "_RECONNECT_SECONDS", 0.0)

    async with _listening(db) as one:
        sql.execute(_CUT)
        async with _listening(db) as other:
            await _looks_at_all(one)
            sql.execute(_ENDED, ("7",))
            assert [await _next(one), await _next(other)] == [(wakeups.ENDED, "7")] * 2
