"""Takes the connections of clients, as many as there are files for."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Final

from pgprog import logs

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

log = logs.get(__name__)

_PAUSE_SECONDS: Final = 1.0
# What comes and goes for so long is one shortage.
_OVER_SECONDS: Final = 60.0


async def accept(listener: socket.socket, client: Callable[[], asyncio.BaseProtocol]) -> None:
    """Give each connection a *client*, until cancelled.

    A server of asyncio logs a traceback for each that it cannot take: here it is one warning, and
    who comes waits, or finds after a moment that nobody answers him.
    """
    loop = asyncio.get_running_loop()
    short_at = float("-inf")
    while True:
        try:
            connection, _ = await loop.sock_accept(listener)
        except ConnectionAbortedError:
            await asyncio.sleep(0)  # who has gone again is no fault
            continue
        except OSError as e:
            if loop.time() - short_at > _OVER_SECONDS:
                _warn(e)
            short_at = loop.time()
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        try:
            await loop.connect_accepted_socket(client, connection)
        except OSError:
            connection.close()  # it was gone before it was served: the next one counts


def _warn(error: OSError) -> None:
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    log.warning(
        "reader_out_of_files",
        detail=f"no more clients are taken: {error.strerror}",
        files=files,
        most=most,
        hint="raise LimitNOFILE= of its unit, or `ulimit -n`: a client takes one file",
    )
