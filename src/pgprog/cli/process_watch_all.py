"""`pgprog process watch NAMESPACE`: the processes of a namespace as they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgprog.cli.asking import find_database, read, require_namespace
from pgprog.cli.output import print_json, shown
from pgprog.client import Changed
from pgprog.client.background import running
from pgprog.client.following import follow_all
from pgprog.replication.shared import Feed

if TYPE_CHECKING:
    from pgprog.client import Reached
    from pgprog.client.changes import Position
    from pgprog.store.client_store import ClientStore


def watch_all(
    dsn: str | None, namespace: str, *, status: str | None, position: Position | None, as_json: bool
) -> None:
    """Print what changes until somebody ends it.

    Raises:
        NamespaceNotFound: There is no such namespace.
    """
    direct_dsn = find_database(dsn).direct_dsn

    async def work(store: ClientStore) -> None:
        await require_namespace(store, namespace)
        feed = Feed(direct_dsn, name="pgprog command reader")
        async with running("feed", feed.run()):
            async for found in follow_all(store, feed, namespace, status=status, position=position):
                _print(found, namespace=namespace, as_json=as_json)

    read(dsn, work)


def _print(found: Changed | Reached, *, namespace: str, as_json: bool) -> None:
    if as_json:
        what = {"namespace": namespace} if isinstance(found, Changed) else {}
        print_json(what | found._asdict())
    elif isinstance(found, Changed):
        words = [shown(found.changed_at), shown(found.process_id), str(found.version), found.status]
        words += [found.what] if found.what != "changed" else []
        click.echo("  ".join([*words, shown(found.detail)] if found.detail else words))
    else:
        click.echo(f"position {found.position}")
