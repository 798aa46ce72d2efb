"""HTTP for probes: what is answered, and to whom not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from pgprog.daemon.monitor import server as module
from pgprog.daemon.monitor.server import Answer, Server, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def answer(path: str) -> Answer:
    if path == "/bug":
        raise ValueError("of ours")
    return text(200, path)


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    server = Server(answer)
    [where] = await server.open("127.0.0.1", 0)
    host, _, port = where.rpartition(":")
    yield host, int(port)
    await server.close()


async def say(address: tuple[str, int], request: bytes, *, ends: bool = False) -> bytes:
    """Send bytes; return all that is answered until the connection ends."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    if ends:
        writer.write_eof()
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def test_a_get_is_answered_and_the_connection_ends(address: tuple[str, int]) -> None:
    answered = await say(address, b"GET /ready?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n")

    head, _, body = answered.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 7" in head
    assert b"Connection: close" in head
    assert body == b"/ready\n"


async def test_a_head_is_answered_without_a_body(address: tuple[str, int]) -> None:
    answered = await say(address, b"HEAD /live HTTP/1.0\r\n\r\n")

    assert b"Content-Length: 6\r\n" in answered
    assert answered.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", b"405"),
        (b"GET /\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),  # TLS
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/2\r\n\r\n", b"400"),
        (b"GET  / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000, b"431"),
        (b"GET /" + b"a" * 100_000, b"431"),
        (b"GET /bug HTTP/1.1\r\n\r\n", b"500"),
    ],
)
async def test_what_cannot_be_answered_is_told_so_and_hurts_nobody_else(
    address: tuple[str, int], request_: bytes, status: bytes
) -> None:
    answered = await say(address, request_)

    assert answered[:12] in {b"HTTP/1.1 " + status, b""}  # cut off, if more is sent than is read
    assert (await say(address, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_half_a_request_and_none_end_with_their_connection(
    address: tuple[str, int],
) -> None:
    assert (await say(address, b"GET / HT", ends=True)).startswith(b"HTTP/1.1 400")
    assert await say(address, b"", ends=True) == b""


async def test_who_says_nothing_is_cut_off_in_time(
    address: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.05)

    assert await say(address, b"GET / HTTP/1.1\r\n") == b""


async def test_no_more_than_64_are_served_at_once_and_the_next_one_after_them(
    address: tuple[str, int],
) -> None:
    silent = [await asyncio.open_connection(*address) for _ in range(64)]
    over = await say(address, b"GET / HTTP/1.1\r\n\r\n")
    for _, writer in silent:
        writer.close()
    async with asyncio.timeout(10):
        while not (await say(address, b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200"):
            pass

    assert over == b""
