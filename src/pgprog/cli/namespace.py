"""`pgprog namespace`: the kinds of process, and the settings that all workers obey."""

from __future__ import annotations

import click

from pgprog.cli.arguments import namespace_argument
from pgprog.cli.asking import dsn_option, listed, read, require_namespace
from pgprog.cli.output import age, json_option, print_fields, print_json, print_table


@click.group()
def namespace() -> None:
    """See the kinds of process, and the settings that all workers obey."""


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
    """Show one namespace: its settings with their version, and whether it is paused."""
    found = read(dsn, lambda store: require_namespace(store, namespace))
    if as_json:
        print_json(found)
    else:
        print_fields(found)
