"""`pgprog process init`, `call`, `notify` and `repair`: what is asked of handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

import click

from pgprog.cli.answers import end_of, print_answer, print_task
from pgprog.cli.arguments import (
    key_option,
    namespace_argument,
    no_wait_option,
    priority_option,
    process_id_argument,
    read_instant,
    read_json,
    timeout_option,
)
from pgprog.cli.asking import ask, dsn_option
from pgprog.cli.campaign import campaign
from pgprog.cli.output import json_option
from pgprog.current import checked
from pgprog.model import TaskType
from pgprog.tracing import carry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, timedelta

    import msgspec
    from typing_extensions import Unpack

    from pgprog.client import AsyncClient, AsyncTask
    from pgprog.store.rows import Ended


class _Given(TypedDict):
    """What is typed for a request."""

    namespace: str
    process_id: str
    args: msgspec.Raw | None
    name: str | None
    key: str | None
    context: msgspec.Raw | None
    correlation_id: str | None
    traceparent: str | None
    priority: int
    run_at: NotRequired[datetime | None]
    dsn: str | None
    as_json: bool


class _Awaited(_Given):
    timeout: timedelta | None
    no_wait: bool


def _request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments and options of `_Given`."""
    for decorate in (
        json_option,
        dsn_option,
        priority_option,
        click.option(
            "--context", callback=read_json, metavar="JSON", help="JSON that travels with the task."
        ),
        click.option(
            "--correlation-id",
            envvar="PGPROG_CORRELATION_ID",
            help="Travels with all that comes of it; default: $PGPROG_CORRELATION_ID.",
        ),
        click.option(
            "--traceparent",
            envvar=["PGPROG_TRACEPARENT", "TRACEPARENT"],
            help="The trace to go on with, as W3C has it; default: $TRACEPARENT.",
        ),
        key_option,
        click.option("--name", help="The operation, such as pay."),
        click.argument("args", callback=read_json, required=False),
        process_id_argument,
        namespace_argument,
    ):
        command = decorate(command)
    return command


_run_at_option = click.option(
    "--run-at", callback=read_instant, metavar="TIME", help="Not before this time, with its zone."
)


@click.command()
@_request
@_run_at_option
@timeout_option
@no_wait_option
def init(**given: Unpack[_Awaited]) -> None:
    """Create a process and print the answer of its init."""
    _ask(TaskType.INIT, given)


@click.command()
@_request
@_run_at_option
@timeout_option
@no_wait_option
def call(**given: Unpack[_Awaited]) -> None:
    """Call a process and print its answer."""
    _ask(TaskType.CALL, given)


@click.command()
@_request
@_run_at_option
def notify(**given: Unpack[_Given]) -> None:
    """Tell a process something and print the task, without waiting for its step."""
    _queue(TaskType.NOTIFY, given)


class _RepairCommand(click.Command):
    """`repair`, or with --all what is in the module campaign: arguments mean other things there."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        """Return the context of the command that is meant."""
        options = args[: args.index("--")] if "--" in args else args  # the rest are names
        if "--all" in options:
            return campaign.make_context(f"{info_name} --all", args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_RepairCommand)
@_request
@timeout_option
@no_wait_option
def repair(**given: Unpack[_Awaited]) -> None:
    """Have a process in error mended by its repair handler, and print its answer.

    A repair that fails changes nothing.  With --all it is a campaign over many processes:
    `pgprog process repair --all --help`.
    """
    _ask(TaskType.REPAIR, given)


def _ask(type_: TaskType, given: _Awaited) -> None:
    if given["no_wait"]:
        _queue(type_, given)
        return

    async def work(client: AsyncClient) -> Ended:
        task = await _submit(client, type_, given)
        return await end_of(client, task.task_id, timeout=given["timeout"])

    print_answer(ask(given["dsn"], work), as_json=given["as_json"])


def _queue(type_: TaskType, given: _Given) -> None:
    task = ask(given["dsn"], lambda client: _submit(client, type_, given))
    print_task(task.task_id, as_json=given["as_json"])


async def _submit(client: AsyncClient, type_: TaskType, given: _Given) -> AsyncTask:
    travelling = {name: given.get(name) for name in ("correlation_id", "traceparent")}
    carried, faults = checked(travelling)
    for fault in faults:
        click.echo(f"Warning: {fault}; it is left out", err=True)
    with carry(**carried):
        return await client.submit(
            type_,
            given["namespace"],
            given["process_id"],
            given["args"],
            name=given["name"],
            idempotency_key=given["key"],
            context=given["context"],
            priority=given["priority"],
            run_at=given.get("run_at"),
        )
