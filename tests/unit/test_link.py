"""What a supervisor says to a worker."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.config import Config
from pgprog.daemon.link import Link, Order, reload_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Link]]:
    """The supervisor's socket, and the worker's link."""
    ours, theirs = socket.socketpair()
    link = Link(theirs.detach())
    yield ours, link
    ours.close()
    link._socket.close()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_orders_and_configurations_are_heard_however_they_are_cut(
    ends: tuple[socket.socket, Link], step: int
) -> None:
    ours, link = ends
    heard: asyncio.Queue[Any] = asyncio.Queue()
    link.hear(heard.put_nowait, take=heard.put_nowait)
    said: list[Order | Config] = [Order.STOP, Config(dsn="a"), Config(dsn="b"), Order.STOP_AT_ONCE]
    words = b"".join(each.value if isinstance(each, Order) else reload_of(each) for each in said)
    for begin in range(0, len(words), step):
        ours.sendall(words[begin : begin + step])
        await asyncio.sleep(0)

    assert [await asyncio.wait_for(heard.get(), 5) for _ in said] == said


async def test_a_worker_whose_supervisor_is_gone_is_told_to_stop(
    ends: tuple[socket.socket, Link],
) -> None:
    ours, link = ends
    heard: asyncio.Queue[Any] = asyncio.Queue()
    link.hear(heard.put_nowait, take=heard.put_nowait)

    ours.close()

    assert await asyncio.wait_for(heard.get(), 5) is Order.STOP


async def test_a_supervisor_that_dies_with_words_unread_is_gone_and_no_error(
    ends: tuple[socket.socket, Link],
) -> None:
    ours, link = ends
    heard: asyncio.Queue[Any] = asyncio.Queue()
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    link.hear(heard.put_nowait, take=heard.put_nowait)
    link.tell_full()

    ours.close()

    assert await asyncio.wait_for(heard.get(), 5) is Order.STOP
    assert errors == []
