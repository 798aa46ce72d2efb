"""How a client hears that a task has ended elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgprog.replication import inserts
from pgprog.store import wakeups

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pgprog.client.answers import Answers
    from pgprog.client.watching import Wakes
    from pgprog.config import Wakeups


async def hear_ends(
    answers: Answers, wakes: Wakes, direct_dsn: str, *, by: Wakeups, name: str
) -> None:
    """Have *answers*, and those who watch, look for what has ended; they poll in any case."""

    def told(rows: Sequence[Sequence[Any]]) -> None:
        answers.ended(task_id for (task_id,) in rows)
        wakes.tell()

    def look() -> None:
        answers.hint("")
        wakes.tell()

    async with asyncio.TaskGroup() as ways:
        if by != "poll":
            ways.create_task(
                wakeups.listen(
                    direct_dsn,
                    channels=(wakeups.ENDED,),
                    hear=lambda _, payload: answers.hint(payload),
                    name=name,
                )
            )
        if by == "stream":
            ways.create_task(
                inserts.hear(
                    direct_dsn,
                    inserts.ENDED,
                    told=told,
                    look=look,
                    name=name,
                )
            )
