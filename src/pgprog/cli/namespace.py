"""`pgprog namespace`: the kinds of process, and the settings that all workers obey."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgprog.cli.arguments import namespace_argument, read_sentence
from pgprog.cli.asking import change, dsn_option, listed, read, require_namespace
from pgprog.cli.namespace_purge import purge
from pgprog.cli.namespace_settings import apply, history, rollback, set_
from pgprog.cli.output import age, json_option, print_fields, print_json, print_table
from pgprog.store import wakeups

if TYPE_CHECKING:
    from pgprog.store.client_store import ClientStore
    from pgprog.store.operator_store import OperatorStore


@click.group(commands=[set_, apply, history, rollback, purge])
def namespace() -> None:
    """See the kinds of process and the settings that all workers obey; pause and resume them."""


@namespace.command(name="list")
@dsn_option
@json_option
def list_namespaces(*, dsn: str | None, as_json: bool) -> None:
    """List the namespaces; settings are shown by `show` and --json."""
    rows, now = listed(dsn, lambda store: store.namespaces(), namespace=None)
    if as_json:
        print_json(rows)
        return
    names = ("namespace", "settings_version", "created_at", "paused_at", "pause_reason")
    print_table(
        (*names[:3], "ago", *names[3:]),
        [
            (
                *(row[name] for name in names[:3]),
                age(row["created_at"], now=now),
                *(row[name] for name in names[3:]),
            )
            for row in rows
        ],
    )


@namespace.command()
@namespace_argument
@dsn_option
@json_option
def show(*, namespace: str, dsn: str | None, as_json: bool) -> None:
    """Show one namespace: its settings, who changed them last and why; by whom it is paused."""

    async def work(store: OperatorStore) -> dict[str, Any]:
        row = await require_namespace(store, namespace)
        [last] = await store.settings_history(namespace, limit=1)
        told = {f"settings_{key}": last[key] for key in ("changed_at", "changed_by", "reason")}
        return row | told

    found = read(dsn, work)
    if as_json:
        print_json(found)
    else:
        print_fields(found)


@namespace.command()
@namespace_argument
@click.option("--reason", callback=read_sentence, help="Why, for those who find it paused.")
@dsn_option
@json_option
def pause(*, namespace: str, reason: str | None, dsn: str | None, as_json: bool) -> None:
    """Let no task start in a namespace.

    Running steps end, and requests are accepted: they wait.  A paused one gets the reason.
    """
    was_running = change(dsn, lambda store: store.pause(namespace, reason))
    if as_json:
        print_json({"namespace": namespace, "was_running": was_running})
    else:
        click.echo(f"namespace {namespace} {'is' if was_running else 'was already'} paused")


@namespace.command()
@namespace_argument
@dsn_option
@json_option
def resume(*, namespace: str, dsn: str | None, as_json: bool) -> None:
    """Let tasks start again in a paused namespace."""

    async def work(store: ClientStore) -> bool:
        was_paused = await store.resume(namespace)
        # Also of one that ran: a command that was cut off after its commit is repeated.
        await store.announce(wakeups.DUE, [namespace])
        return was_paused

    was_paused = change(dsn, work)
    if as_json:
        print_json({"namespace": namespace, "was_paused": was_paused})
    else:
        click.echo(f"namespace {namespace} {'is resumed' if was_paused else 'was not paused'}")
