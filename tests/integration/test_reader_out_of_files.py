"""A shared reader that may open no more files."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from pgprog.daemon.reader import accepting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Shortage:
    """Refuses files for as long as there *is* one, as the kernel would."""

    def __init__(self) -> None:
        self.number = 0
        self.refused = 0

    async def accept(self, accept: Any, listener: socket.socket) -> Any:
        if self.number:
            self.refused += 1
            raise OSError(self.number, os.strerror(self.number))
        return await accept(listener)


class Greeter(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"hello")

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> Shortage:
    shortage = Shortage()
    loop = asyncio.SelectorEventLoop
    accept: Any = loop.sock_accept

    async def accepted(self: Any, listener: socket.socket) -> Any:
        return await shortage.accept(lambda sock: accept(self, sock), listener)

    monkeypatch.setattr("asyncio.selector_events.BaseSelectorEventLoop.sock_accept", accepted)
    monkeypatch.setattr(accepting, "_PAUSE_SECONDS", 0.01)
    return shortage


@pytest.fixture
async def path(tmp_path: Path, shortage: Shortage) -> AsyncIterator[str]:
    path = str(tmp_path / "reader.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        task = asyncio.create_task(accepting.accept(listener, Greeter))
        yield path
        task.cancel()
        await asyncio.wait([task])


async def _greeted(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(20):
        assert await reader.readexactly(5) == b"hello"
    return reader, writer


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_clients_that_cannot_be_taken_are_one_warning_and_taken_when_they_can_be(
    path: str, shortage: Shortage, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    reader, writer = await _greeted(path)
    shortage.number = number
    first = asyncio.create_task(_greeted(path))  # who waits already is taken beside the shortage
    second = asyncio.create_task(_greeted(path))
    async with asyncio.timeout(20):
        while shortage.refused < 20:
            await asyncio.sleep(0)
    writer.write(b"again")
    async with asyncio.timeout(20):
        assert await reader.readexactly(5) == b"again"
    shortage.number = 0
    for _, each in (await first, await second, await _greeted(path)):
        each.close()
    writer.close()

    [record] = caplog.records
    fields: Any = record.__dict__["fields"]
    assert record.getMessage() == "reader_out_of_files"
    assert "LimitNOFILE" in fields["hint"]
    assert "ulimit -n" in fields["hint"]
    assert fields["files"] > 0


async def test_who_has_gone_before_he_was_taken_is_no_fault(
    path: str, shortage: Shortage, caplog: pytest.LogCaptureFixture
) -> None:
    shortage.number = errno.ECONNABORTED
    taken = asyncio.create_task(_greeted(path))
    async with asyncio.timeout(20):
        while shortage.refused < 5:
            await asyncio.sleep(0)
    shortage.number = 0
    (await taken)[1].close()
    assert caplog.records == []


async def test_who_has_gone_before_he_was_served_keeps_nobody_from_it(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    serve: Any = type(loop).connect_accepted_socket
    gone = [OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))]

    async def served(self: Any, *args: Any, **kwargs: Any) -> Any:
        if gone:
            raise gone.pop()
        return await serve(self, *args, **kwargs)

    monkeypatch.setattr(type(loop), "connect_accepted_socket", served)
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(20):
        assert await reader.read() == b""  # hung up on
    writer.close()
    _, writer = await _greeted(path)
    writer.close()
