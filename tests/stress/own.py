"""Processes that the reading client itself writes, by calls: it reads what it wrote."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.stress.oracle import Written, gone, rank
from tests.stress.readers import HONEST

from pgprog import Intent, Namespace, SetTimer, Step

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from tests.stress.oracle import Oracle
    from tests.stress.readers import Observer


OWN = "own"
_EPOCH = datetime(2100, 1, 1, tzinfo=UTC)


def own_namespace() -> Namespace[Any]:
    """Return a namespace whose steps write what their arguments say."""
    own = Namespace(OWN)

    @own.init
    def begin(step: Step[Any], args: Any) -> Intent[Any]:
        return _written(args)

    @own.call
    def go_on(step: Step[Any], args: Any) -> Intent[Any]:
        return _written(args)

    return own


def _written(args: Any) -> Intent[Any]:
    number = args["n"]
    return Intent(
        state={"life": args["life"], "n": number, "mark": args["mark"]},
        metadata={"life": args["life"], "n": number, "state_n": number, "mark": args["mark"]},
        events=[{"n": number, "mark": args["mark"]}],
        timers=[SetTimer(at=_EPOCH + timedelta(seconds=number), name="step")],
    )


class OwnAuthor:
    """Writes one process through *observer*'s client, and has it read at once."""

    def __init__(
        self, process_id: str, observer: Observer, oracle: Oracle, chance: random.Random
    ) -> None:
        self._key = (OWN, process_id)
        self._observer = observer
        self._oracle = oracle
        self._chance = chance
        self._life = 1
        self._number = 0

    async def write_on(self) -> None:
        """Write for ever; a look at the process comes before each write, so that it is kept."""
        client = self._observer.client
        while True:
            await self._read()
            key = f"{self._key[1]}/{self._life}/{self._number + 1}"
            if self._number and self._chance.random() < 0.05:
                await self._try(gone(self._life), f"{key}/gone", partial(client.remove, *self._key))
                self._life, self._number = self._life + 1, 0
            else:
                self._number += 1
                args = {"life": self._life, "n": self._number, "mark": key}
                await self._try(rank(self._life, self._number), key, partial(self._ask, args, key))
            await self._read()
            await asyncio.sleep(self._chance.random() * 0.05)

    async def _ask(self, args: dict[str, Any], key: str) -> None:
        client = self._observer.client
        if self._number == 1:
            await client.init(*self._key, args, idempotency_key=key, timeout=20)
        else:
            await client.call(*self._key, args, name="go_on", idempotency_key=key, timeout=20)

    async def _read(self) -> None:
        try:
            await self._observer.read(self._key)
        except HONEST:
            return

    async def _try(self, rank: int, mark: str, write: Callable[[], Awaitable[object]]) -> None:
        """Write until it is known to be done; a removal that found nothing was done before."""
        self._oracle.began(self._key, Written(mark, rank, time.monotonic()))
        while True:
            try:
                await write()
            except HONEST:
                await asyncio.sleep(0.05)
            else:
                break
        self._oracle.committed(self._key, mark, at=time.monotonic())
        self._observer.wrote(self._key, rank)
