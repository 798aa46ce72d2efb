"""`pgprog task`: what was asked of processes, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from pgprog.cli.answers import end_of, print_answer
from pgprog.cli.arguments import (
    limit_option,
    namespace_option,
    read_name,
    task_id_argument,
    timeout_option,
)
from pgprog.cli.asking import ask, dsn_option, listed, read
from pgprog.cli.output import (
    age,
    json_option,
    print_fields,
    print_json,
    print_table,
    printable,
)
from pgprog.errors import PgprogError
from pgprog.model import TaskStatus, TaskType

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.store.client_store import ClientStore

_LISTED = ("task_id", "namespace", "process_id", "type", "name", "status", "attempt")


class TooLate(PgprogError):  # noqa: N818 - named as those of pgprog.errors
    """The task runs or has ended: it can no more be cancelled."""


@click.group()
def task() -> None:
    """See what was asked of processes, wait for it, cancel it.

    Open tasks, timers, and ended tasks for as long as task_retention keeps them.
    """


@task.command(name="list")
@namespace_option
@click.option("--process", callback=read_name, help="Only those of this process id.")
@click.option(
    "--status",
    type=click.Choice([status.value for status in TaskStatus]),
    help="Only those in this status.",
)
@click.option(
    "--type",
    "type_",
    type=click.Choice([type_.value for type_ in TaskType]),
    help="Only those of this type.",
)
@limit_option
@dsn_option
@json_option
def list_tasks(
    *,
    namespace: str | None,
    process: str | None,
    status: str | None,
    type_: str | None,
    limit: int,
    dsn: str | None,
    as_json: bool,
) -> None:
    """List tasks, the newest first."""
    rows, now = listed(
        dsn,
        lambda store: store.tasks(
            namespace=namespace, process_id=process, status=status, type_=type_, limit=limit
        ),
        namespace=namespace,
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        (*_LISTED, "scheduled_at", "ago", "error"),
        [
            (
                *(row[name] for name in _LISTED),
                row["scheduled_at"],
                age(row["scheduled_at"], now=now),
                row["error_type"] or row["cause"],
            )
            for row in rows
        ],
    )


@task.command()
@task_id_argument
@dsn_option
@json_option
def show(*, task_id: int, dsn: str | None, as_json: bool) -> None:
    """Show a task with its answer or its error; `process trace` has its args."""
    found = read(dsn, lambda store: _task(store, task_id))
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@task.command()
@task_id_argument
@timeout_option
@dsn_option
@json_option
def wait(*, task_id: int, timeout: timedelta | None, dsn: str | None, as_json: bool) -> None:
    """Wait for the end of a task and print its answer; exit codes are those of a call."""
    ended = ask(dsn, lambda client: end_of(client, task_id, timeout=timeout))
    print_answer(ended, as_json=as_json)


@task.command()
@task_id_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@dsn_option
@json_option
def cancel(*, task_id: int, yes: bool, dsn: str | None, as_json: bool) -> None:
    """End a task that has not started; whoever waits for it is told.

    With an init goes its process, with a timer only the timer.  One that runs or has ended is left
    as it is, with exit code 1.
    """
    if not yes:
        found = read(dsn, lambda store: _task(store, task_id))
        click.echo(printable(f"{_sentence(found)}."), err=True)
        click.confirm("Cancel it?", abort=True, err=True)
    is_cancelled = ask(dsn, lambda client: client.cancel(task_id))
    if as_json:
        print_json({"task_id": task_id, "cancelled": is_cancelled})
    if not is_cancelled:
        msg = f"task {task_id} runs or has ended: it cannot be cancelled"
        raise TooLate(msg, hint=f"`pgprog task show {task_id}`")
    if not as_json:
        click.echo(f"task {task_id} is cancelled")


async def _task(store: ClientStore, task_id: int) -> dict[str, Any]:
    """Return the columns of pgprog.tasks and what pgprog.result tells, its JSON raw."""
    raw = await store.result(task_id)
    row = await store.task(task_id) or {"task_id": task_id}
    result = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    return {**row, **{name: _or_none(value) for name, value in result.items() if name != "status"}}


def _or_none(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value


def _sentence(found: dict[str, Any]) -> str:
    what = " ".join(filter(None, (found["type"], found["name"])))
    where = f"process {found['process_id']} in namespace {found['namespace']}"
    return f"task {found['task_id']}, {what} of {where}, is {found['status']}"
