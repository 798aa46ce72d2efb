"""How a task ends on the command line: its answer, or the error that becomes the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
import msgspec

from pgprog.cli.output import print_json, shown
from pgprog.client.answers import response_of
from pgprog.errors import CallTimeout, Rejected
from pgprog.model import TaskStatus
from pgprog.store.rows import Ended

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.client import AsyncClient

_ENDS: Final = (TaskStatus.FINISHED, TaskStatus.ERROR, TaskStatus.CANCELLED)


async def end_of(client: AsyncClient, task_id: int, *, timeout: timedelta | None) -> Ended:
    """Return the end of a task; of one that has not ended in time, the status that it has."""
    try:
        return await client.wait_ended(task_id, timeout=timeout)
    except CallTimeout:
        status = (await client.result(task_id)).status
        if status in _ENDS:
            return await client.wait_ended(task_id)
        return Ended(task_id, status, None, None, None)


def print_task(task_id: int, *, as_json: bool) -> None:
    """Print the task of what was asked, for `pgprog task wait`."""
    if as_json:
        print_json({"task_id": task_id})
    else:
        click.echo(f"task {task_id}")


def print_answer(ended: Ended, *, as_json: bool) -> None:
    """Print the answer of a task, or where it is; as JSON that is what pgprog.result gives.

    Raises:
        Rejected, StepFailed, TaskCancelled: It ended without an answer.
        CallTimeout: It has not ended.
    """
    if as_json:
        print_json(ended._asdict())
    if ended.status not in _ENDS:
        raise CallTimeout(ended.task_id)
    try:
        response = response_of(ended)
    except Rejected:
        if not as_json and ended.error is not None:
            rejected = msgspec.json.decode(ended.error, type=dict[str, msgspec.Raw])["rejected"]
            click.echo(shown(rejected), err=True)
        raise
    if not as_json:
        click.echo(shown(response or b"null"))
