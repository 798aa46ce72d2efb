"""`pgprog config`: whether the configuration is right, and where each value of it comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pgprog import config as configuration
from pgprog.cli.asking import read
from pgprog.cli.output import json_option, print_json, print_table
from pgprog.config.values import IN_CODE, values_of
from pgprog.daemon import apply as taking
from pgprog.daemon import load_namespaces
from pgprog.errors import ConfigError
from pgprog.store.pool import without_password

if TYPE_CHECKING:
    from pgprog.config.values import Value
    from pgprog.store.operator_store import OperatorStore

_SECRETS = ("dsn", "direct_dsn")

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The configuration file; default: $PGPROG_CONFIG, else ./pgprog.yaml.",
)
profile_option = click.option(
    "--profile", help="The profile to lay over the file; default: $PGPROG_PROFILE."
)


@click.group()
def config() -> None:
    """See the configuration as a worker would read it: file, profile, environment."""


@config.command()
@config_option
@profile_option
@click.option("--without-handlers", is_flag=True, help="Do not import the code of the handlers.")
@json_option
def check(*, path: Path | None, profile: str | None, without_handlers: bool, as_json: bool) -> None:
    """Tell all faults of the configuration, its other profiles among them; exit code 1 if any.

    Handlers are imported as a worker does.  A running worker reads the file again at SIGHUP.
    """
    try:
        loaded = configuration.load_with_origins(path, environ=os.environ, profile=profile)
        if not without_handlers and loaded.config.namespaces:
            load_namespaces(loaded.config)
    except ConfigError as e:
        if as_json:
            print_json({"faults": _faults(e)})
        raise
    if as_json:
        print_json({"faults": []})
    else:
        click.echo(f"{loaded.file or 'the configuration, without a file,'} has no faults")


@config.command()
@config_option
@profile_option
@click.option("--differences", is_flag=True, help="Show where the database differs.")
@json_option
def show(*, path: Path | None, profile: str | None, differences: bool, as_json: bool) -> None:
    """List every value with where it comes from; passwords are left out.

    With --differences: what `pgprog namespace apply` would change in the database, which is what
    workers obey.
    """
    loaded = configuration.load_with_origins(path, environ=os.environ, profile=profile)
    if differences:
        _show_differences(loaded.config, as_json=as_json)
        return
    rows = [(each.path, _shown(each), each.origin) for each in values_of(loaded)]
    if as_json:
        print_json([dict(zip(("path", "value", "origin"), row, strict=True)) for row in rows])
        return
    others = [(f"namespaces.{name}.*", None, IN_CODE) for name in loaded.config.namespaces]
    print_table(("value", "is", "from"), [*rows, *others])


def _show_differences(loaded: configuration.Config, *, as_json: bool) -> None:
    namespaces = load_namespaces(loaded)

    async def work(store: OperatorStore) -> list[taking.Change]:
        return await taking.plan(store, namespaces)

    rows = [
        (planned.namespace, each.path, each.before, each.after)
        for planned in read(loaded.dsn or None, work)
        for each in planned.differences
    ]
    names = ("namespace", "path", "database", "configuration")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(names, rows)


def _shown(each: Value) -> Any:  # noqa: ANN401 - of any type that a configuration has
    if each.path in _SECRETS and isinstance(each.value, str):
        return without_password(each.value) or None
    return each.value


def _faults(error: ConfigError) -> list[str]:
    first, *others = str(error).split("\n  ")
    return others or [first]
