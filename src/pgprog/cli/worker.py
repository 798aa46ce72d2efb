"""`pgprog worker`: the daemon."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from pgprog import config as configuration
from pgprog import logs
from pgprog.cli.worker_list import list_workers
from pgprog.cli.worker_log_level import log_level
from pgprog.daemon import Link, check_namespaces, load_namespaces, serve, supervise
from pgprog.daemon.link import MARGIN_SECONDS
from pgprog.engine import DEFAULT_ROLES, Role
from pgprog.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgprog.config import Config

# A reader is one program, whatever worker.processes says.
_LONE = frozenset({Role.READER, Role.HTTP})
# Option → what it overrides in the configuration.
_KEYS = {
    "dsn": "dsn",
    "concurrency": "worker.concurrency",
    "processes": "worker.processes",
    "http": "worker.http",
    "log_format": "log.format",
    "log_level": "log.level",
}
_CANCEL_SECONDS = 1.0
_FAILED = 1  # as Python has it
_LAST_STANDARD = 2
_FORMATS = click.Choice(get_args(configuration.LogFormat))
_LEVELS = click.Choice(get_args(configuration.LogLevel))


def _roles(_context: click.Context, _parameter: click.Parameter, value: str) -> frozenset[Role]:
    try:
        return frozenset(Role(name.strip()) for name in value.split(","))
    except ValueError as e:
        unknown = [x.strip() for x in value.split(",") if x.strip() not in set(Role)]
        msg = f"no role {', '.join(map(repr, unknown))}; there are {', '.join(Role)}"
        raise click.BadParameter(msg) from e


@click.group(invoke_without_command=True, commands=[list_workers, log_level])
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The configuration file; default: $PGPROG_CONFIG, else ./pgprog.yaml.",
)
@click.option("--profile", help="The profile to lay over the file; default: $PGPROG_PROFILE.")
@click.option("--dsn", help="The database; default: the configuration's.")
@click.option("--concurrency", type=int, help="How many steps run at once.")
@click.option("--http", help="HOST:PORT of /live, /ready, /health and /metrics; default: none.")
@click.option("--processes", type=int, help="How many workers, each a program with its own lease.")
@click.option(
    "--only",
    "roles",
    default=",".join(role for role in Role if role in DEFAULT_ROLES),
    show_default=True,
    callback=_roles,
    help="What to do, separated by commas; also: reader, one for a machine.",
)
@click.option(
    "--log-format",
    type=_FORMATS,
    help="For people or for programs.  Default: the configuration's, console.",
)
@click.option("--log-level", type=_LEVELS, help="Default: the configuration's, info.")
@click.option("--link", "fd", type=int, hidden=True, help="For a supervisor, who starts this.")
def worker(
    *,
    path: Path | None,
    profile: str | None,
    roles: frozenset[Role],
    fd: int | None,
    **given: str | int | None,
) -> None:
    """Serve the namespaces of the configuration until SIGTERM or Ctrl-C.

    SIGHUP reads it again: settings of namespaces go into the database, as by `pgprog namespace
    apply`, and the log level changes; a file with faults is refused, and nothing changes.

    Running steps may end within worker.stop_timeout, the rest is handed over at once.  A second
    signal does not wait for them; a third ends the program as it stands.

    With --processes, or worker.processes in the configuration, a supervisor keeps so many workers
    running, each with all of --concurrency.  The tasks of one that falls are free at once; it is
    started again, after a pause that grows to 8 s where the last ones did not live for 10 s.
    Workers whose supervisor is killed stop as if they were told to; one that hangs is ended 10 s
    after worker.stop_timeout.

    With --only reader it serves programs of this machine from memory, over the socket of
    reader.socket in the configuration, so that none needs a replication slot of its own.

    Under systemd it says when it is ready, what it does, and, if that waits for it, that it makes
    progress; `pgprog systemd` prints the unit.

    \b
    Exit codes:
      0        stopped, all steps ended or handed back
      1        it could not start, or failed; of a supervisor also: a worker had to be killed,
               10 s after worker.stop_timeout
      75       stopped, to be started again: it held more than worker.memory_limit
      128 + n  stopped by a second signal, of number n
    """  # noqa: D301 - \b is the character by which click keeps lines as they are
    if click.get_current_context().invoked_subcommand is not None:
        return
    _open_standard_files()
    overrides = {_KEYS[name]: value for name, value in given.items()}
    load = partial(
        configuration.load, path, environ=os.environ, profile=profile, overrides=overrides
    )
    read = partial(_read_again, load, roles)
    link = None if fd is None else Link(fd)
    loaded = load() if link is None else _hear_of(link)
    is_supervisor = link is None and loaded.worker.processes > 1 and not roles <= _LONE
    if is_supervisor:
        _check_one_reader(roles)
    logs.configure(format=loaded.log.format, level=loaded.log.level)
    if sys.stderr is not None:  # it was closed by who started us
        faulthandler.enable()  # one that hangs is ended by SIGABRT, and shows where it stands
    if is_supervisor:
        sys.exit(supervise(loaded, command=_command(roles), read=read, roles=roles))
    namespaces = load_namespaces(loaded) if Role.STEPS in roles else []
    serve_to_end(serve(loaded, namespaces, roles=roles, link=link, read=read))


worker.add_command(log_level)


def _open_standard_files() -> None:
    """Have nothing where a shell's >&- left a gap: a socket would come to be there.

    One that is to be passed on to a child process would be taken for its standard input.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(number, True)  # noqa: FBT003 - it has no name
    os.close(number)


def _read_again(load: Callable[[], Config], roles: frozenset[Role]) -> Config:
    """Return the configuration at SIGHUP: one that no worker starts with has a fault, too."""
    config = load()
    if Role.STEPS in roles:
        check_namespaces(config)
    return config


def _hear_of(link: Link) -> Config:
    """Return the configuration that a supervisor sends, whose death is ours."""
    config = link.read_config()
    link.end_with_supervisor(within=config.worker.stop_timeout + timedelta(seconds=MARGIN_SECONDS))
    return config


def _check_one_reader(roles: frozenset[Role]) -> None:
    """Refuse workers that would each be the reader of the machine.

    Raises:
        ConfigError: They would.
    """
    if Role.READER in roles:
        msg = "a machine has one reader, and several workers are to be started"
        hint = "run `pgprog worker --only reader` by itself, or with --processes 1"
        raise ConfigError(msg, hint=hint)


def serve_to_end(serving: Coroutine[Any, Any, int]) -> None:
    """Serve, and leave: neither steps that do not heed a cancellation nor threads hold that up.

    `asyncio.run` would wait for such steps for ever, and Python for the threads of handlers, also
    at the end of a worker of which a loop has failed.
    """
    loop = asyncio.new_event_loop()
    try:
        _end_at_once(loop.run_until_complete(serving))
    except ExceptionGroup as e:
        _cancel_all(loop)
        sys.excepthook(type(e), e, e.__traceback__)
        _end_at_once(_FAILED)
    finally:  # it could not start
        _cancel_all(loop)
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=_CANCEL_SECONDS))


def _end_at_once(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it was closed by who started us
            stream.flush()
    os._exit(code)


def _command(roles: frozenset[Role]) -> list[str]:
    """Return the command of one worker under a supervisor, without the number of its line."""
    return [
        *(sys.executable, "-m", "pgprog", "worker", "--only", ",".join(sorted(roles))),
        "--link",
    ]
