"""The command line: one module a command group, loaded when it is asked for."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from pgprog.cli.output import drop_unread, printable
from pgprog.errors import (
    CallTimeout,
    NamespaceNotFound,
    PgprogError,
    ProcessNotFound,
    Rejected,
    StepFailed,
    TaskCancelled,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Command → where its click command is, as `module:attribute`.
COMMANDS: Final[Mapping[str, str]] = {
    "audit": "pgprog.cli.audit:audit",
    "completion": "pgprog.cli.completion:completion",
    "config": "pgprog.cli.config:config",
    "db": "pgprog.cli.db:db",
    "demo": "pgprog.cli.demo:demo",
    "dev": "pgprog.cli.dev:dev",
    "doctor": "pgprog.cli.doctor:doctor",
    "namespace": "pgprog.cli.namespace:namespace",
    "process": "pgprog.cli.process:process",
    "systemd": "pgprog.cli.systemd:systemd",
    "task": "pgprog.cli.task:task",
    "top": "pgprog.cli.top:top",
    "worker": "pgprog.cli.worker:worker",
}

# For errors that come from the database without one.
_HINTS: Final[Mapping[type[PgprogError], str]] = {
    NamespaceNotFound: "the first worker that serves it makes it; `pgprog namespace list` has all",
    ProcessNotFound: "`pgprog process list --namespace NAMESPACE` has those there are",
}
# As shells say it: 128 and the number of SIGINT, of SIGPIPE.
_INTERRUPTED: Final = 130
_UNREAD: Final = 141


class _NoAnswer(click.ClickException):
    exit_code = 3


class _Late(click.ClickException):
    exit_code = 4


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

    def make_context(self, *args: Any, **extra: Any) -> click.Context:  # noqa: ANN401 - click's
        """Read the command line; --help and --version print and end here."""
        with _piped():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; an expected failure ends it with a message, not a traceback."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # what was done is not to fail at its telling
            sys.stdout.reconfigure(errors="backslashreplace")
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        try:
            with _piped():
                return super().invoke(ctx)
        except PgprogError as e:
            _fail(e)
        except KeyboardInterrupt:
            ctx.exit(_INTERRUPTED)
        except click.Abort as e:
            if isinstance(e.__context__, KeyboardInterrupt):  # at a question
                ctx.exit(_INTERRUPTED)
            raise


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pgprog", message="pgprog %(version)s")
def main() -> None:
    """Long-lived processes on PostgreSQL alone.

    \b
    Try it, without a PostgreSQL (pip install 'pgprog[demo]'):
      pgprog demo           documents of this machine, indexed by processes
      pgprog dev shop.py    a private PostgreSQL and a worker for the handlers of a file
      pgprog db status      where that PostgreSQL is
      pgprog db stop        end it; its data stay

    \b
    Ask a process, once a program serves its namespace, and look at it:
      pgprog process init orders o-1 '{"due": "10"}'
      pgprog process call orders o-1 '{"amount": "4.50"}' --name pay
      pgprog process get orders o-1 --events 10
      pgprog task list --namespace orders --status error

    \b
    When a process does not move, or is in error:
      pgprog process explain orders o-1
      pgprog process repair orders o-1 '{"due": "10"}'   by its repair handler
      pgprog process simple-repair orders o-1            what failed is tried again
      pgprog process repair --all --namespace orders     many of them
      pgprog namespace pause orders --reason 'the bank is down'
      pgprog namespace resume orders

    \b
    See what is going on:
      pgprog top            queues, workers, rates and errors, live
      pgprog worker list    who is at work

    \b
    When something is wrong and you do not know what:
      pgprog doctor         what it is, why, and the command that mends it

    \b
    In production:
      pgprog db migrate     bring a database to the schema of this version
      pgprog worker         serve the namespaces of ./pgprog.yaml
      pgprog worker log-level debug                    those that run, from here on
      pgprog systemd        units for systemd, which runs workers
      pgprog config show    every value of it, and where it comes from
      pgprog namespace set orders step_timeout=1m      running workers obey
      pgprog namespace rollback orders

    JSON is given inline, as @file, or as - for standard input.  The database is that of --dsn, of
    $PGPROG_DSN, of the configuration file ($PGPROG_CONFIG, ./pgprog.yaml), or the private one.
    Every command has --help, and those that answer have --json for programs that read it.
    `pgprog completion` makes a shell complete them.

    \b
    Exit codes:
      0    done
      1    it failed: the message on standard error says why, and what to do
      2    the command line was wrong
      3    the task was rejected, failed or was cancelled; with --json its result is printed
      4    the answer did not come in time; the task goes on: `pgprog task wait`
      5    `pgprog doctor` found something that somebody should look at
      6    `pgprog doctor` found something that stops work or endangers data
      130  interrupted by Ctrl-C; a task that was asked for goes on
      141  nobody reads what it prints, as behind `| head -1`; it may have done its work
    """  # noqa: D301 - \b is the character by which click keeps lines as they are


@contextlib.contextmanager
def _piped() -> Iterator[None]:
    """End quietly, by the exit code that is usual, where the reader of a pipe has ended."""
    try:
        yield
    except BrokenPipeError as e:
        drop_unread()
        raise click.exceptions.Exit(_UNREAD) from e


def _fail(error: PgprogError) -> NoReturn:
    message = str(error) or type(error).__name__
    hint = error.hint or _HINTS.get(type(error))
    if hint:
        message += f"\nHint: {hint}"
    message = printable(message.expandtabs())  # a handler's error may repeat what anybody sent it
    match error:
        case Rejected() | StepFailed() | TaskCancelled():
            raise _NoAnswer(message) from error
        case CallTimeout():
            raise _Late(message) from error
        case _:
            raise click.ClickException(message) from error
