"""`pgprog worker`: the daemon."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from pgprog import config as configuration
from pgprog import logs
from pgprog.daemon import load_namespaces, serve
from pgprog.engine import Role
from pgprog.errors import ConfigError

_FORMATS = click.Choice(["console", "json"])
_LEVELS = click.Choice(["debug", "info", "warning", "error"])


def _roles(_context: click.Context, _parameter: click.Parameter, value: str) -> frozenset[Role]:
    try:
        return frozenset(Role(name.strip()) for name in value.split(","))
    except ValueError as e:
        msg = f"{e}; known are {', '.join(Role)}"
        raise click.BadParameter(msg) from e


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The configuration file; default: $PGPROG_CONFIG, else ./pgprog.yaml.",
)
@click.option("--profile", help="The profile to lay over the file; default: $PGPROG_PROFILE.")
@click.option("--dsn", help="The database; default: the configuration's.")
@click.option("--concurrency", type=int, help="How many steps run at once.")
@click.option(
    "--only",
    "roles",
    default=",".join(Role),
    show_default=True,
    callback=_roles,
    help="What to do, separated by commas.",
)
@click.option("--log-format", type=_FORMATS, default="console", show_default=True)
@click.option("--log-level", type=_LEVELS, default="info", show_default=True)
def worker(
    *,
    path: Path | None,
    profile: str | None,
    dsn: str | None,
    concurrency: int | None,
    roles: frozenset[Role],
    log_format: logs.Format,
    log_level: str,
) -> None:
    """Serve the namespaces of the configuration until SIGTERM or Ctrl-C.

    Running steps may end within worker.stop_timeout, the rest is handed over at once.
    """
    logs.configure(format=log_format, level=log_level)
    loaded = configuration.load(
        path,
        environ=os.environ,
        profile=profile,
        overrides={"dsn": dsn, "worker.concurrency": concurrency},
    )
    if loaded.worker.processes > 1:
        msg = f"worker.processes is {loaded.worker.processes}, and only 1 is available"
        raise ConfigError(msg, hint="start several workers")
    namespaces = load_namespaces(loaded) if Role.STEPS in roles else []
    asyncio.run(serve(loaded, namespaces, roles=roles))
    end_at_once()


def end_at_once() -> None:
    """Leave without waiting for threads of handlers that ran over their time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
