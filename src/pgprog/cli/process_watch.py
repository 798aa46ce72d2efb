"""`pgprog process watch`: one process as it changes."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import click
import msgspec

from pgprog.cli.arguments import namespace_argument, process_id_argument
from pgprog.cli.asking import dsn_option, read
from pgprog.cli.output import compact, json_option, print_json, shown
from pgprog.client import Seen
from pgprog.client.reading import RawProcess, raw_process
from pgprog.client.watching import POLL_SECONDS, follow

if TYPE_CHECKING:
    from pgprog.client.freshness import Range
    from pgprog.store.client_store import ClientStore


def _read_seen(ctx: click.Context, param: click.Parameter, value: str | None) -> Seen | None:
    if value is None:
        return None
    if re.fullmatch(r"\d{1,18}\.\d{1,18}\.\d{1,18}", value, re.ASCII) is None:
        msg = "it is what a line of this command begins with: VERSION.INCARNATION.EVENT_ID"
        raise click.BadParameter(msg, ctx, param)
    return Seen._make(map(int, value.split(".")))


@click.command()
@namespace_argument
@process_id_argument
@click.option(
    "--after",
    "seen",
    callback=_read_seen,
    metavar="SEEN",
    help="Go on behind what was seen; 0.0.0 is before the first event.",
)
@dsn_option
@json_option
def watch(
    *, namespace: str, process_id: str, seen: Seen | None, dsn: str | None, as_json: bool
) -> None:
    """Follow a process: as it is, then each change and event, until it is removed.

    It looks once a second, through restarts of the database too.  Versions may be passed over,
    events never are.  Each snapshot begins with what --after goes on behind, of one incarnation or
    the next.  With --json each is a line, with its new events; the last has `removed`.  Ctrl-C
    ends it with exit code 130.
    """

    async def work(store: ClientStore) -> bool:
        async def look(range_: Range) -> RawProcess | None:
            found = await store.get(namespace, process_id, **range_._asdict())
            return None if found is None else raw_process(found)

        is_found = seen is not None
        async for process in follow(look, _pause, seen=seen):
            is_found = True
            _print(process, as_json=as_json)
        if not is_found:  # history says what there is none of: the process or its namespace
            await store.history(
                namespace, process_id, after=None, max_events=0, direction="forward"
            )
        return is_found

    read(dsn, work)
    if as_json:
        print_json({"namespace": namespace, "process_id": process_id, "removed": True})
    else:
        click.echo("removed")


async def _pause() -> None:
    await asyncio.sleep(POLL_SECONDS)


def _print(process: RawProcess, *, as_json: bool) -> None:
    seen = ".".join(map(str, Seen.of(process)))
    if as_json:
        print_json({"seen": seen, **msgspec.structs.asdict(process)})
        return
    words = [seen, process.status, compact(bytes(process.state))]
    click.echo("  ".join([*words, shown(process.detail)] if process.detail else words))
    for event in process.history:
        click.echo(f"  event {event.event_id}  {shown(event.at)}  {compact(bytes(event.payload))}")
