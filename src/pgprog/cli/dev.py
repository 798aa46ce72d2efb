"""`pgprog dev`: everything that a file of handlers needs to run, with reload."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click

from pgprog import logs
from pgprog.cli.worker import serve_to_end
from pgprog.config import Config
from pgprog.daemon import load_file, serve
from pgprog.embedded import DevelopmentServer
from pgprog.embedded.programs import psql_line
from pgprog.errors import ConfigError
from pgprog.store.migrate import migrate

_SIGNALLED = 128


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--once", is_flag=True, help="Do not reload: end when the worker ends.")
def dev(*, file: Path, once: bool) -> None:
    """Serve the namespaces that FILE makes, on the development server, with reload.

    Starts the server and migrates it, prints its DSN and a psql line, and starts the worker again
    whenever a Python file beside FILE changes.  The server stays: `pgprog db stop` ends it.
    """
    if once:
        logs.configure()
        serve_to_end(serve(Config(dsn=DevelopmentServer().dsn), load_file(file)))
        return
    server = DevelopmentServer()
    server.start()
    migrate(server.dsn)
    click.echo(f"dsn   {server.dsn}\npsql  {psql_line(server.dsn)}")
    _serve_with_reload(file)


def _serve_with_reload(file: Path) -> None:
    try:
        from watchfiles import PythonFilter, watch  # noqa: PLC0415 - an extra
    except ImportError as e:
        msg = "reload needs the package watchfiles"
        raise ConfigError(msg, hint="pip install 'pgprog[dev]', or give --once") from e
    heard = _take_signals()
    child = _start(file)
    try:
        for _ in watch(file.resolve().parent, watch_filter=PythonFilter(), raise_interrupt=False):
            _stop(child)
            click.echo(f"{file} or a file beside it changed: starting again")
            child = _start(file)
    finally:
        _stop(child)
    if heard:
        sys.exit(_SIGNALLED + heard[0])


def _take_signals() -> list[int]:
    """Have a kill and the end of the terminal interrupt as Ctrl-C does, and return which came.

    The worker would outlive us: it is in a group of its own.
    """
    heard: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, interrupt)
    return heard


def _start(file: Path) -> subprocess.Popen[bytes]:
    # A group of its own: Ctrl-C is for us, who then stop it.
    return subprocess.Popen(
        [sys.executable, "-m", "pgprog", "dev", "--once", str(file)], start_new_session=True
    )


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    child.wait()
