"""The command line: one module a command group, loaded when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final, NoReturn

import click

from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Command → where its click command is, as `module:attribute`.
COMMANDS: Final[Mapping[str, str]] = {
    "db": "pgprog.cli.db:db",
    "demo": "pgprog.cli.demo:demo",
}


class Program(click.Group):
    """A group whose commands are imported when they are named, so that each starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands in alphabetical order."""
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of this name, None if there is none."""
        place = COMMANDS.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            msg = f"{place} is no command"
            raise TypeError(msg)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an expected failure ends it with a message, not a traceback."""
        try:
            return super().invoke(ctx)
        except PgprogError as e:
            _fail(e)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgprog", message="pgprog %(version)s")
def main() -> None:
    """Long-lived processes on PostgreSQL alone.

    \b
    Try it, with nothing else installed:
      pgprog demo           documents of this machine, indexed by processes
      pgprog db start       a private PostgreSQL for development; prints its DSN
      pgprog db migrate     bring its schema up to this version
      pgprog db status      where it is
      pgprog db stop        end it; its data stay

    Every command has --help, and --json for programs that read its output.

    \b
    Exit codes:
      0  done
      1  it failed: the message on standard error says why, and what to do
      2  the command line was wrong
    """  # noqa: D301 - \b is the character by which click keeps lines as they are


def _fail(error: PgprogError) -> NoReturn:
    message = str(error) or type(error).__name__
    if error.hint:
        message += f"\nHint: {error.hint}"
    raise click.ClickException(message) from error
