"""`pgprog process`: look at processes; the commands that ask and change are of other modules."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click
import msgspec

from pgprog.cli.arguments import (
    events_options,
    limit_option,
    namespace_argument,
    namespace_option,
    process_id_argument,
    read_name,
)
from pgprog.cli.asking import dsn_option, listed, read
from pgprog.cli.output import age, compact, json_option, print_fields, print_json, print_table
from pgprog.cli.process_operations import put, remove, simple_repair
from pgprog.cli.process_requests import call, init, notify, repair
from pgprog.cli.process_watch import watch
from pgprog.model import ProcessStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgprog.model import Direction
    from pgprog.store.client_store import ClientStore

_EVENT = ("event_id", "at", "task_id", "payload", "metadata")  # what a table shows
_TASK = ("task_id", "type", "name", "status", "attempt", "scheduled_at", "started_at", "ended_at")


class _ShownEvent(msgspec.Struct):
    event_id: int
    at: datetime
    task_id: int
    payload: msgspec.Raw
    metadata: msgspec.Raw


class _Shown(msgspec.Struct):
    """What people see of the JSON of pgprog.get, in this order."""

    namespace: str
    process_id: str
    status: str
    status_changed_at: datetime
    previous_status: str | None
    detail: str | None
    corrupted_by: int | None
    created_at: datetime
    incarnation: int
    version: int
    last_event_id: int
    state_version: int
    state: msgspec.Raw
    metadata: msgspec.Raw
    timers: dict[str, datetime]
    history: list[_ShownEvent]


@click.group(commands=[init, call, notify, repair, simple_repair, put, remove, watch])
def process() -> None:
    """Ask processes for something, look at them, mend them.

    ARGS and PROCESS are JSON: inline, @file, or - for standard input.  Payloads are printed with
    every digit.
    """


@process.command()
@namespace_argument
@process_id_argument
@events_options("--events", default=0)
@dsn_option
@json_option
def get(
    *,
    namespace: str,
    process_id: str,
    max_events: int,
    after: int | None,
    backward: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Show a process as one snapshot: its state, its timers and, if asked for, its events."""

    async def work(store: ClientStore) -> bytes | None:
        direction = _direction(backward=backward)
        found = await store.get(
            namespace, process_id, max_events=max_events, after=after, direction=direction
        )
        if found is None:  # history says what there is none of: the process or its namespace
            await store.history(
                namespace, process_id, after=None, max_events=0, direction=direction
            )
        return found

    found = read(dsn, work)
    if as_json or found is None:
        print_json(found)
    else:
        _print_process(found)


@process.command()
@namespace_argument
@process_id_argument
@events_options("--limit", default=100)
@dsn_option
@json_option
def history(
    *,
    namespace: str,
    process_id: str,
    max_events: int,
    after: int | None,
    backward: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """List the events of a process."""
    rows = read(
        dsn,
        lambda store: store.history(
            namespace,
            process_id,
            after=after,
            max_events=max_events,
            direction=_direction(backward=backward),
        ),
    )
    if as_json:
        print_json([dict(zip((*_EVENT, "state_version"), row, strict=True)) for row in rows])
    else:
        _print_events(row[:-1] for row in rows)


@process.command()
@namespace_argument
@process_id_argument
@dsn_option
@json_option
def trace(*, namespace: str, process_id: str, dsn: str | None, as_json: bool) -> None:
    """List the tasks of a process with their attempts; with --json, payloads and events too."""
    rows = read(dsn, lambda store: store.trace(namespace, process_id))
    if as_json:
        print_json(rows)
        return
    names = (*_TASK, "worker", "retry_at")
    print_table(
        (*names, "error"),
        [(*(row[name] for name in names), compact(row["error"])) for row in rows],
    )


@process.command()
@namespace_argument
@process_id_argument
@dsn_option
@json_option
def explain(*, namespace: str, process_id: str, dsn: str | None, as_json: bool) -> None:
    """Say the one reason why a process is not moving."""
    reason, sentence, details = read(dsn, lambda store: store.explain(namespace, process_id))
    found = {"reason": reason, "sentence": sentence, "details": details}
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@process.command(name="list")
@namespace_option
@click.option(
    "--status",
    type=click.Choice([status.value for status in ProcessStatus]),
    help="Only those in this status.",
)
@click.option(
    "--after",
    callback=read_name,
    metavar="PROCESS_ID",
    help="Begin behind this id; needs --namespace.",
)
@limit_option
@dsn_option
@json_option
def list_processes(
    *,
    namespace: str | None,
    status: str | None,
    after: str | None,
    limit: int,
    dsn: str | None,
    as_json: bool,
) -> None:
    """List processes by namespace and id; without an end of the list, see --after."""
    if after is not None and namespace is None:
        msg = "--after needs --namespace: ids are unique within one only"
        raise click.UsageError(msg)
    rows, now = listed(
        dsn,
        lambda store: store.processes(namespace=namespace, status=status, after=after, limit=limit),
        namespace=namespace,
    )
    if as_json:
        print_json(rows)
        return
    names = ("namespace", "process_id", "status", "last_event_id", "changed_at")
    print_table(
        (*names, "ago", "detail"),
        [
            (*(row[n] for n in names), age(row["changed_at"], now=now), row["detail"])
            for row in rows
        ],
    )


def _direction(*, backward: bool) -> Direction:
    return "backward" if backward else "forward"


def _print_process(raw: bytes) -> None:
    """Print the JSON of pgprog.get for people: fields, timers, and the events as a table."""
    found = msgspec.json.decode(raw, type=_Shown)
    names = [n for n in found.__struct_fields__ if n not in ("timers", "history")]
    timers = {f"timer {name}".rstrip(): due_at for name, due_at in found.timers.items()}
    print_fields({**{name: getattr(found, name) for name in names}, **timers})
    if found.history:
        click.echo()
        _print_events(
            (e.event_id, e.at, e.task_id, bytes(e.payload), bytes(e.metadata))
            for e in found.history
        )


def _print_events(rows: Iterable[tuple[int, datetime, int, bytes, bytes | None]]) -> None:
    print_table(
        _EVENT,
        [(*ids, compact(payload), compact(metadata)) for *ids, payload, metadata in rows],
    )
