"""LISTEN: hints that something is due or has ended.

An accelerator only.  While there is no connection, through a transaction pooler for instance,
everything is found by polling, later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psycopg

from pgprog.errors import StoreUnavailable
from pgprog.store.faults import RolledBack
from pgprog.store.pool import open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

DUE: Final = "pgprog_due"  # the payload is a namespace
ENDED: Final = "pgprog_ended"  # the payload is a list of task ids, or nothing for "look"

_RECONNECT_SECONDS = 5.0


async def listen(
    direct_dsn: str, *, channels: tuple[str, ...], hear: Callable[[str, str], None], name: str
) -> None:
    """Call *hear* with channel and payload of each notification, until cancelled.

    *hear* is called with the channel and no payload after each connection, since what was sent
    before it is lost.
    """
    while True:
        try:
            connection = await open_connection(direct_dsn, name=f"{name} listen")
            async with connection:
                for channel in channels:
                    await connection.execute(f"listen {channel}".encode())
                for channel in channels:
                    hear(channel, "")
                async for notification in connection.notifies():
                    hear(notification.channel, notification.payload)
        except (StoreUnavailable, RolledBack, psycopg.Error):
            await asyncio.sleep(_RECONNECT_SECONDS)
