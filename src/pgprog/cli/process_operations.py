"""`pgprog process simple-repair`, `put` and `remove`: what is done without a handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from pgprog.cli.answers import end_of, print_answer, print_task
from pgprog.cli.arguments import (
    key_option,
    namespace_argument,
    no_wait_option,
    process_id_argument,
    read_json,
    timeout_option,
    version_option,
)
from pgprog.cli.asking import ask, dsn_option
from pgprog.cli.output import json_option, print_json, printable
from pgprog.errors import ProcessNotFound

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.client import AsyncClient
    from pgprog.model import Process
    from pgprog.store.rows import Ended


@click.command(name="simple-repair")
@namespace_argument
@process_id_argument
@key_option
@timeout_option
@no_wait_option
@dsn_option
@json_option
def simple_repair(
    *,
    namespace: str,
    process_id: str,
    key: str | None,
    timeout: timedelta | None,
    no_wait: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Mend a process in error without repair code, and try again what failed.

    Prints the answer of the new task.  After a failed call nothing is tried again, and the task is
    null.
    """

    async def work(client: AsyncClient) -> Ended | int | None:
        task = await client.simple_repair(namespace, process_id, idempotency_key=key)
        if task is None or no_wait:
            return None if task is None else task.task_id
        return await end_of(client, task.task_id, timeout=timeout)

    done = ask(dsn, work)
    match done:
        case None if as_json:
            print_json({"task_id": None})
        case None:
            where = f"process {process_id} in namespace {namespace}"
            click.echo(f"{where} is mended; a call had failed")
        case int():
            print_task(done, as_json=as_json)
        case _:
            print_answer(done, as_json=as_json)


@click.command()
@click.argument("process", callback=read_json)
@key_option
@dsn_option
@json_option
def put(*, process: msgspec.Raw | None, key: str | None, dsn: str | None, as_json: bool) -> None:
    """Import a process as `process get --json` prints it, and print its version.

    Give get --events, or the history is not in it.  No handler runs.
    """
    given = _object(process)
    version = ask(dsn, lambda client: client.put(given, idempotency_key=key))
    if as_json:
        print_json({"version": version})
    else:
        click.echo(f"version {version}")


@click.command()
@namespace_argument
@process_id_argument
@version_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@dsn_option
@json_option
def remove(
    *,
    namespace: str,
    process_id: str,
    version: int | None,
    yes: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Remove a process at once; whoever waits for one of its tasks is told.

    Where it is not there, or not in that version, nothing is done, with exit code 1.
    """
    if not yes:
        found = ask(dsn, lambda client: _process(client, namespace, process_id))
        click.echo(printable(f"{_sentence(found)}."), err=True)
        click.confirm("Remove it with its history?", abort=True, err=True)
    is_removed = ask(dsn, lambda client: client.remove(namespace, process_id, version=version))
    if as_json:
        print_json({"namespace": namespace, "process_id": process_id, "removed": is_removed})
    if not is_removed:
        what = f"process {process_id}" + ("" if version is None else f" of version {version}")
        msg = f"no {what} in namespace {namespace}: nothing was removed"
        raise ProcessNotFound(msg)
    if not as_json:
        click.echo(f"process {process_id} in namespace {namespace} is removed")


def _object(process: msgspec.Raw | None) -> dict[str, msgspec.Raw]:
    """Return the fields of a process, each with all its digits."""
    msg = "a process is a JSON object, as `pgprog process get --json` prints it"
    try:
        found = msgspec.json.decode(process or b"null", type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as e:
        raise click.BadParameter(msg, param_hint="PROCESS") from e
    if missing := [name for name in ("namespace", "process_id") if name not in found]:
        msg = f"{msg}: it has no {missing[0]}"
        raise click.BadParameter(msg, param_hint="PROCESS")
    return found


async def _process(client: AsyncClient, namespace: str, process_id: str) -> Process[object]:
    found = await client.get(namespace, process_id)
    if found is None:  # history says what there is none of: the process or its namespace
        await client.history(namespace, process_id, max_events=0)
        msg = f"no process {process_id} in namespace {namespace}"
        raise ProcessNotFound(msg)
    return found


def _sentence(found: Process[object]) -> str:
    where = f"process {found.process_id} in namespace {found.namespace}"
    has = f"of version {found.version}, with {found.last_event_id} events"
    return f"{where} is {found.status}, {has}"
