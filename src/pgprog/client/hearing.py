"""How a client hears that a task has ended elsewhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgprog.replication import inserts
from pgprog.store import wakeups

if TYPE_CHECKING:
    from pgprog.client.answers import Answers
    from pgprog.config import Wakeups


async def hear_ends(answers: Answers, *, by: Wakeups, direct_dsn: str, name: str) -> None:
    """Have *answers* look for what has ended, until cancelled; they poll in any case."""
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
                    told=lambda rows: answers.ended(task_id for (task_id,) in rows),
                    look=lambda: answers.hint(""),
                    name=name,
                )
            )
