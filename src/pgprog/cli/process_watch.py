"""`pgprog process watch`: one process as it changes."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import click
import msgspec

from pgprog.cli.arguments import namespace_argument, read_name
from pgprog.cli.asking import dsn_option, find_database, read
from pgprog.cli.output import compact, json_option, print_json, shown
from pgprog.cli.process_watch_all import watch_all
from pgprog.client import Seen
from pgprog.client.changes import Position
from pgprog.client.lookout import Lookout
from pgprog.client.reading import RawProcess, raw_process
from pgprog.client.shared.reads import SharedReads
from pgprog.client.watching import follow
from pgprog.errors import InvalidArgument
from pgprog.model import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from pgprog.cache.entries import Key
    from pgprog.cli.asking import Database
    from pgprog.client.freshness import Range
    from pgprog.client.memory import Memory
    from pgprog.store.client_store import ClientStore


def _read_after(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> Seen | Position | None:
    if value is None:
        return None
    with contextlib.suppress(InvalidArgument):
        return Position.parse(value)
    if re.fullmatch(r"\d{1,18}\.\d{1,18}\.\d{1,18}", value, re.ASCII) is None:
        msg = "it is VERSION.INCARNATION.EVENT_ID as printed of one process; of many, a position"
        raise click.BadParameter(msg, ctx, param)
    return Seen._make(map(int, value.split(".")))


@click.command()
@namespace_argument
@click.argument("process_id", required=False, callback=read_name)
@click.option(
    "--status",
    type=click.Choice([status.value for status in ProcessStatus]),
    help="Of all processes, only those in this status.",
)
@click.option(
    "--after",
    callback=_read_after,
    metavar="SEEN",
    help="Go on behind what was seen; of one process 0.0.0 is before the first event.",
)
@dsn_option
@json_option
def watch(
    *,
    namespace: str,
    process_id: str | None,
    status: str | None,
    after: Seen | Position | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Follow a process, or all of a namespace: as they are, then each change.

    It goes on through restarts of the database; Ctrl-C ends it with exit code 130.  With --json
    all is in lines of JSON.

    One process is followed until it is removed: where the configuration names a shared reader
    (reader.socket) that tells of changes, else by a look once a second.  Versions may be passed
    over, events never are.  Each snapshot begins with what --after goes on behind, of one
    incarnation or the next.

    Without a PROCESS_ID the newest version of each process is told, from the replication stream
    as it commits, or by looking; `left` is one that is not in --status any more.  A line
    `position P` says that all before it has been told: --after P goes on there.  No late commit is
    missed by that, and what was written beside the last ones may come again; in a database that was
    restored, recovered or promoted since, all comes again.
    """
    if process_id is None:
        if isinstance(after, Seen):
            msg = "this --after is of one process; a position is XID@TIMELINE.CLUSTER"
            raise click.UsageError(msg)
        watch_all(dsn, namespace, status=status, position=after, as_json=as_json)
    elif status is not None or isinstance(after, Position):
        msg = "of one process --after is VERSION.INCARNATION.EVENT_ID, and --status is none"
        raise click.UsageError(msg)
    else:
        _watch_one(dsn, namespace, process_id, seen=after, as_json=as_json)


def _watch_one(
    dsn: str | None, namespace: str, process_id: str, *, seen: Seen | None, as_json: bool
) -> None:
    database, key = find_database(dsn), (namespace, process_id)

    async def work(store: ClientStore) -> bool:
        is_found = seen is not None
        async with _told_by(database, store) as memory:
            async for process in _followed(store, memory, key, seen=seen):
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


@contextlib.asynccontextmanager
async def _told_by(database: Database, store: ClientStore) -> AsyncIterator[Memory | None]:
    """Give what tells of changes: the shared reader of the configuration, if it names one."""
    if database.reader is None:
        yield None
        return
    shared = SharedReads(database.reader, store, dsn=database.dsn, name="pgprog command")
    async with shared.follow():
        yield shared


async def _followed(
    store: ClientStore, memory: Memory | None, key: Key, *, seen: Seen | None
) -> AsyncGenerator[RawProcess, None]:
    lookout = Lookout(memory, key)

    async def read(range_: Range) -> bytes | None:
        if memory is None:
            return await store.get(*key, **range_._asdict())
        return await memory.read_past(key, range_, ())

    async def look(range_: Range) -> RawProcess | None:
        found = await lookout.look(lambda: read(range_))
        return None if found is None else raw_process(found)

    with lookout.kept():
        async for process in follow(look, lookout.pause, seen=seen):
            yield process


def _print(process: RawProcess, *, as_json: bool) -> None:
    seen = ".".join(map(str, Seen.of(process)))
    if as_json:
        print_json({"seen": seen, **msgspec.structs.asdict(process)})
        return
    words = [seen, process.status, compact(bytes(process.state))]
    click.echo("  ".join([*words, shown(process.detail)] if process.detail else words))
    for event in process.history:
        click.echo(f"  event {event.event_id}  {shown(event.at)}  {compact(bytes(event.payload))}")
