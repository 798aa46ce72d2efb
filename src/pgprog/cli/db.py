"""`pgprog db`: the development server, and the schema of any database."""

from __future__ import annotations

from dataclasses import asdict

import click

from pgprog.cli.asking import dsn_option, find_database, reaching
from pgprog.cli.output import json_option, print_fields, print_json
from pgprog.embedded import DevelopmentServer, ServerStatus
from pgprog.embedded.programs import psql_line
from pgprog.errors import SchemaMismatch
from pgprog.store import migrate as schema


@click.group()
def db() -> None:
    """The private PostgreSQL for development, and the schema of any database.

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


@db.command()
@dsn_option
@click.option("--dry-run", is_flag=True, help="Only say what would be applied.")
@click.option("--again", is_flag=True, help="Apply functions and views that have not changed, too.")
@json_option
def migrate(*, dsn: str | None, dry_run: bool, again: bool, as_json: bool) -> None:
    """Bring a database to the schema of this version, in one transaction.

    Two at once are safe.  A migration that was edited after it ran is refused.  Publications, which
    readers of the replication stream need, are made where the role may make them.  With --again
    what somebody edited or dropped by hand is as it should be.
    """
    if dry_run and again:
        msg = "--again applies everything: there is nothing to try"
        raise click.UsageError(msg)
    database = find_database(dsn)
    apply = schema.pending if dry_run else schema.apply_again if again else schema.migrate
    with reaching(database):
        names = apply(database.direct_dsn)
        unpublished = schema.missing_publications(database.direct_dsn)
    if as_json:
        print_json({"dry_run": dry_run, "files": names, "missing_publications": unpublished})
        return
    for name in names:
        click.echo(name)
    click.echo(f"{len(names)} files {'to apply' if dry_run else 'applied'}")
    if unpublished and not dry_run:
        click.echo(_unpublished(unpublished), err=True)


@db.command()
@click.option("--print", "is_printed", is_flag=True, help="Print the script; apply nothing.")
@dsn_option
@json_option
def roles(*, is_printed: bool, dsn: str | None, as_json: bool) -> None:
    """Make the roles of pgprog and give them their rights in a database.

    Once in a database, as a role that may create roles and owns the schema: migrations give the
    rights again.  Then give a login one of them: grant pgprog_app to shop.
    """
    if is_printed and as_json:
        msg = "--print prints SQL: leave --json out"
        raise click.UsageError(msg)
    if is_printed:
        click.echo(schema.roles(), nl=False)
        return
    database = find_database(dsn)
    with reaching(database):
        schema.apply_roles(database.direct_dsn)
    if as_json:
        print_json({"applied": "roles.sql"})
    else:
        click.echo("the roles are there and have their rights")


@db.command(name="sql")
def print_sql() -> None:
    """Print the whole schema as one script, for a DBA to read and run."""
    click.echo(schema.script(), nl=False)


@db.command()
@dsn_option
@json_option
def check(*, dsn: str | None, as_json: bool) -> None:
    """Say whether the schema of a database is that of this version; exit code 1 if not.

    It is without publications, too, which only readers of the replication stream need.
    """
    database = find_database(dsn)
    with reaching(database):
        missing = schema.pending(database.direct_dsn)
        unpublished = schema.missing_publications(database.direct_dsn)
    names = [name for name in missing if name != schema.PUBLICATION]
    if as_json:
        found = {"current": not names, "missing": names, "missing_publications": unpublished}
        print_json(found)
    elif not names:
        click.echo("the schema is current")
    if unpublished and not names:  # else the migration makes them, or says why not
        click.echo(_unpublished(unpublished), err=True)
    if names:
        msg = f"{len(names)} files are missing or changed, the first is {names[0]}"
        raise SchemaMismatch(msg, hint="run `pgprog db migrate`")


def _unpublished(names: list[str]) -> str:
    return (
        f"publications missing: {', '.join(names)}.  Only readers of the replication stream need"
        " them: run sql/publication.sql as the owner of the tables, with CREATE on the database"
    )


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
        fields["psql"] = psql_line(found.dsn)
    print_fields(fields)
