"""`pgprog worker log-level`: what running workers log, from here on."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, get_args

import click

from pgprog.cli.asking import change, dsn_option
from pgprog.cli.output import json_option, print_json, print_table
from pgprog.config import LogLevel
from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Collection

    from pgprog.store.operator_store import OperatorStore

_LOOK_SECONDS = 0.1
_LATE = 4


@click.command(name="log-level")
@click.argument("level", type=click.Choice(get_args(LogLevel)))
@click.option(
    "--worker",
    "worker_id",
    type=click.IntRange(1, (1 << 63) - 1),
    help="The id of one; default: all that live.",
)
@click.option(
    "--timeout", "seconds", type=float, default=10.0, show_default=True, help="Seconds to wait."
)
@dsn_option
@json_option
def log_level(
    *, level: str, worker_id: int | None, seconds: float, dsn: str | None, as_json: bool
) -> None:
    """Change the log level of running workers, and tell when they have obeyed.

    Each does with the next renewal of its lease, worker.heartbeat_every later at most; its child
    processes keep theirs.  It lasts until the program ends, or reads its configuration again.

    Exit code 4: some have not obeyed in time; they do when they next renew.
    """

    async def work(store: OperatorStore) -> tuple[list[dict[str, Any]], Collection[int]]:
        asked = await store.set_log_level(level, worker_id)
        late = await _wait(store, [each["worker_id"] for each in asked], seconds=seconds)
        return asked, late

    asked, late = change(dsn, work)
    if not asked:
        found = "no worker lives" if worker_id is None else f"no worker {worker_id} lives"
        raise InvalidArgument(found, hint="the view pgprog.workers has those there are")
    answers = [{**each, "after": level, "obeyed": each["worker_id"] not in late} for each in asked]
    if as_json:
        print_json(answers)
    else:
        columns = ("worker_id", "name", "before", "after", "obeyed")
        said = [{**each, "obeyed": "yes" if each["obeyed"] else "not yet"} for each in answers]
        print_table(columns, [[each[key] for key in columns] for each in said])
    if late:
        sys.exit(_LATE)


async def _wait(store: OperatorStore, workers: list[int], *, seconds: float) -> set[int]:
    """Return those of these workers that do not obey within the time."""
    late = {*workers}
    try:
        async with asyncio.timeout(seconds):
            while late := await store.asked_log_levels(workers):  # noqa: ASYNC110 - of others
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        pass
    return late
