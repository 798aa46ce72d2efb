"""`pgprog db`: the development server."""

from __future__ import annotations

from dataclasses import asdict

import click

from pgprog.cli.output import json_option, print_fields, print_json
from pgprog.embedded import DevelopmentServer, ServerStatus


@click.group()
def db() -> None:
    """The private PostgreSQL for development.

    The server listens on a Unix socket only.  Its data are kept in $PGPROG_HOME, by default
    /var/lib/pgprog for root and ~/.local/share/pgprog for others.
    """


@db.command()
@json_option
def start(*, as_json: bool) -> None:
    """Start the server, unless it runs, and print its DSN.

    It runs on in the background until `pgprog db stop`.
    """
    server = DevelopmentServer()
    server.start()
    _print_status(server.status(), as_json=as_json)


@db.command()
@json_option
def stop(*, as_json: bool) -> None:
    """Stop the server; its data stay.  One that does not run is left so."""
    server = DevelopmentServer()
    server.stop()
    _print_status(server.status(), as_json=as_json)


@db.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say whether the server runs, where its data are and how to connect to it."""
    _print_status(DevelopmentServer().status(), as_json=as_json)


def _print_status(found: ServerStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(found))
        return
    fields: dict[str, object] = {
        "server": f"running, process {found.pid}" if found.is_running else "not running",
        "version": found.major_version,
        "data": found.datadir,
        "log": found.log,
        "dsn": found.dsn,
    }
    if found.is_running:
        fields["psql"] = f'psql "{found.dsn}"'
    print_fields(fields)
