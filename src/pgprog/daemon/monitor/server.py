"""HTTP for probes and scrapers: GET, a bounded head, an answer, the end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

from pgprog import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logs.get(__name__)

_HEAD_BYTES = 8192
# From the connection to the last byte of the answer.
_SECONDS = 10.0
_MOST_CONNECTIONS = 64
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_TEXT = "text/plain; charset=utf-8"


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = _TEXT


def text(status: int, line: str) -> Answer:
    """Return an answer of one line."""
    return Answer(status, f"{line}\n".encode())


class Server:
    """Answers GET and HEAD by *answer*, which gets the path; one request a connection.

    Whoever sends something else, too much, or nothing in time is told so or cut off, and no more
    than 64 are served at once: nobody but those who ask is hurt by what they send.
    """

    def __init__(self, answer: Callable[[str], Awaitable[Answer]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    async def open(self, host: str | None, port: int) -> list[str]:
        """Listen, and return where.

        Raises:
            OSError: That is not possible here.
        """
        self._server = await asyncio.start_server(self._take, host, port, limit=_HEAD_BYTES)
        return ["{}:{}".format(*each.getsockname()[:2]) for each in self._server.sockets]

    async def close(self) -> None:
        """Listen no more, and cut off who is being answered."""
        if self._server is not None:
            self._server.close()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._serving) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._serving.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_SECONDS):
                    await self._serve(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_head = False
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            answer = text(431, f"a request has {_HEAD_BYTES} bytes at most")
        except asyncio.IncompleteReadError as e:
            if not e.partial:
                return
            answer = text(400, "this is no HTTP request")
        else:
            is_head = head.startswith(b"HEAD ")
            answer = await self._answer_to(head)
        writer.write(_packed(answer, is_head=is_head))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _answer_to(self, head: bytes) -> Answer:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].isascii():
            return text(400, "this is no HTTP request")
        if words[0] not in (b"GET", b"HEAD"):
            return text(405, "only GET is answered")
        try:
            return await self._answer(words[1].decode().partition("?")[0])
        except Exception as e:  # noqa: BLE001 - a bug of ours must not take the probes down with it
            log.error("page_failed", error=e)  # noqa: TRY400 - our log carries it
            return text(500, f"{type(e).__name__}: see the log")


def _packed(answer: Answer, *, is_head: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"{'Allow: GET, HEAD' + chr(13) + chr(10) if answer.status == 405 else ''}"
        "Cache-Control: no-store\r\n"
        "Connection: close\r\n"
        "\r\n"
    ).encode()
    return head if is_head else head + answer.body
