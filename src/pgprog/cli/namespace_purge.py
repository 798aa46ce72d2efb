"""`pgprog namespace purge`: the end of all that a namespace holds."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from pgprog.cli.arguments import namespace_argument
from pgprog.cli.asking import change, dsn_option, read, require_namespace
from pgprog.cli.output import json_option, print_json
from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pgprog.store.operator_store import OperatorStore
    from pgprog.store.rows import NamespaceStats

_AGAIN_SECONDS = 0.2
# Waiters have two seconds to hear of their tasks; a thousand processes of a call take less.
_SILENT_SECONDS = 5.0
_SILENCE = (
    "nothing could be erased for a while: perhaps somebody holds it;"
    " `pgprog doctor --only locks,transactions --long 0s` says who"
)


@click.command()
@namespace_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--pause", "may_pause", is_flag=True, help="Pause the namespace first if it runs.")
@click.option(
    "--batch",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="At most so many processes, or rows of another kind, in a transaction.",
)
@dsn_option
@json_option
def purge(
    *, namespace: str, yes: bool, may_pause: bool, batch: int, dsn: str | None, as_json: bool
) -> None:
    """Erase all that a paused namespace holds: processes, history, tasks, answers and keys.

    Nothing brings it back.  Whoever waits for a task is told that it was cancelled: removed.  The
    namespace itself stays, paused, with its settings.  It goes in small transactions; one that was
    interrupted is begun again, and goes on with what is left.  It waits for open transactions that
    hold some of that, and says so on standard error.
    """
    row = read(dsn, lambda store: require_namespace(store, namespace))
    if row["paused_at"] is None and not may_pause:
        msg = f"namespace {namespace} is not paused"
        raise InvalidArgument(msg, hint=f"`pgprog namespace pause {namespace}`, or give --pause")
    if not yes:
        found = next(s for s in read(dsn, lambda store: store.stats()) if s.namespace == namespace)
        click.echo(f"{_sentence(found)}.", err=True)
        click.confirm("Erase all of it, with its history, for ever?", abort=True, err=True)

    async def work(store: OperatorStore) -> int:
        if row["paused_at"] is None:
            await store.pause(namespace, "purge")
        return await _purged(store, namespace, batch=batch)

    erased = change(dsn, work)
    if as_json:
        print_json({"namespace": namespace, "erased": erased})
    else:
        click.echo(f"namespace {namespace} is empty and paused; {erased} rows were erased")


async def _purged(store: OperatorStore, namespace: str, *, batch: int) -> int:
    """Purge to the end; return how many rows were erased."""
    total, after = 0, 0
    while True:
        async with _telling():
            erased, following = await _purged_some(store, namespace, after=after, batch=batch)
        total += erased
        if following is None:
            return total
        after = following


async def _purged_some(
    store: OperatorStore, namespace: str, *, after: int, batch: int
) -> tuple[int, int | None]:
    """Purge until some rows were erased, or looked through; return how many, and what follows."""
    while True:
        erased, following = await store.purge(namespace, after=after, max_rows=batch)
        if erased or following != after:
            return erased, following
        await asyncio.sleep(_AGAIN_SECONDS)  # for waiters to hear, or another's transaction


@asynccontextmanager
async def _telling() -> AsyncIterator[None]:
    """Say what the block may wait for, once it takes long."""
    loop = asyncio.get_running_loop()
    timer = loop.call_later(_SILENT_SECONDS, partial(click.echo, _SILENCE, err=True))
    try:
        yield
    finally:
        timer.cancel()


def _sentence(found: NamespaceStats) -> str:
    open_ = found.waiting + found.blocked + found.running
    return (
        f"namespace {found.namespace} has {open_} open tasks and {found.timers} timers,"
        f" and of its processes {found.errors} are in error and {found.finished} finished"
    )
