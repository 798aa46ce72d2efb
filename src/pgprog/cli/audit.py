"""`pgprog audit`: what operators did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgprog.cli.arguments import read_instant, read_name
from pgprog.cli.asking import dsn_option, listed
from pgprog.cli.output import age, compact, json_option, print_json, print_table

if TYPE_CHECKING:
    from datetime import datetime

_SHOWN = (
    "action", "namespace", "process_id", "task_id", "login", "role", "client", "application"
)  # fmt: skip


@click.group()
def audit() -> None:
    """See who repaired, removed, cancelled, paused, purged and changed settings, and when."""


@audit.command(name="list")
@click.option("--namespace", callback=read_name, help="In this namespace.")
@click.option("--process", "process_id", callback=read_name, help="To the process of this id.")
@click.option(
    "--action",
    callback=read_name,
    help="The function that was called: pause, remove, set_settings.",
)
@click.option("--since", callback=read_instant, metavar="TIME", help="At this time or later.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most."
)
@dsn_option
@json_option
def list_actions(
    *,
    namespace: str | None,
    process_id: str | None,
    action: str | None,
    since: datetime | None,
    limit: int,
    dsn: str | None,
    as_json: bool,
) -> None:
    """List what was done, the newest first, without payloads.

    What was rolled back was not done, and is not here.  Kept for audit_retention, a year.
    """
    rows, now = listed(
        dsn,
        lambda store: store.audit(
            namespace=namespace, process_id=process_id, action=action, since=since, limit=limit
        ),
        namespace=namespace,
    )
    if as_json:
        print_json(rows)
        return
    print_table(
        ("at", "ago", *_SHOWN, "details", "result"),
        [
            (
                row["at"],
                age(row["at"], now=now),
                *(row[name] for name in _SHOWN),
                compact(row["details"]),
                compact(row["result"]),
            )
            for row in rows
        ],
    )
