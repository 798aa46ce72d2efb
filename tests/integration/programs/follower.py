"""Follow a database until killed, and name the slot: python follower.py DSN."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing

from pgprog.replication.feed import follow
from pgprog.replication.messages import Connected
from pgprog.replication.published import Published


async def main(dsn: str) -> None:
    async with aclosing(follow(dsn, Published(["notes"], {}))) as events:
        async for event in events:
            if type(event) is Connected:
                print(event.slot, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
