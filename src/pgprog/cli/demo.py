"""`pgprog demo`: the main job on real input, shown to a person or told to a program."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgprog import logs
from pgprog.cli.output import json_option, print_json
from pgprog.demo import discover, progress, report, search
from pgprog.demo.prepare import check_extra, prepare, prepare_corpus
from pgprog.demo.run import carry, fetch_report, serving
from pgprog.demo.watch import follow
from pgprog.embedded.home import find_home, make_home
from pgprog.embedded.programs import psql_line

if TYPE_CHECKING:
    from pgprog.demo.discover import Selection
    from pgprog.demo.progress import Progress
    from pgprog.demo.run import Report
    from pgprog.demo.watch import Change

_INTERRUPTED = 130
_INBOX = "inbox"
# Where nobody sees a bar move.
_LINE_SECONDS = 5.0


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--watch", is_flag=True, help="Then follow new, changed and deleted files.")
@json_option
def demo(*, path: Path | None, watch: bool, as_json: bool) -> None:
    """Index the documents below PATH, each carried by a process of its own.

    Without PATH they are 1 500 of this machine's documentation and of a corpus that is made.
    Their texts are kept in the development server, which is started, and can be searched there.

    Ctrl-C stops it, and so does anything else; started again it goes on where it was.  With
    --watch it lives until Ctrl-C; without PATH it then follows a directory of its own.

    \b
    Exit codes:
      0    all documents have ended; those that cannot be read are listed
      1    it failed: the message on standard error says why
      2    the command line was wrong
      130  it was interrupted before the end
    """  # noqa: D301 - \b is the character by which click keeps lines as they are
    if watch and path is not None and not path.is_dir():
        msg = "--watch follows a directory"
        raise click.UsageError(msg)
    check_extra()
    logs.configure(level="error")  # documents that fail are in the report
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # a lost server is told of once
    shown = _Json() if as_json else _Screen()
    home = find_home(os.environ)
    make_home(home)
    shown.say("Starting PostgreSQL and bringing its schema up")
    dsn = prepare(home)
    root = (path or _inbox(home)).resolve() if watch else None
    shown.say(f"Looking for documents {f'below {path}' if path else 'on this machine'}")
    selection = _select(path, inbox=root if path is None else None, home=home)
    if not asyncio.run(_run(dsn, selection, root=root, shown=shown)):
        shown.say(f"Stopped.  To go on: {_again()}")
        sys.exit(_INTERRUPTED)


class _Screen:
    """Shows the run to a person: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._drawn = ""
        self._line_at = time.monotonic()

    def say(self, text: str = "") -> None:
        if self._drawn:
            click.echo()
            self._drawn = ""
        click.echo(text)

    def show(self, now: Progress) -> None:
        if self._is_terminal:
            drawn = progress.bar(now)
            click.echo(f"\r{drawn:<{len(self._drawn)}}", nl=False)
            self._drawn = drawn
        elif time.monotonic() - self._line_at > _LINE_SECONDS:
            self._line_at = time.monotonic()
            click.echo(progress.line(now))

    def tell(self, change: Change) -> None:
        detail = f"  {change.detail}" if change.detail else ""
        click.echo(f"{change.action:<9}  {change.path}  {change.seconds:.2f} s{detail}")

    def end(self, dsn: str, now: Progress, result: Report) -> None:
        self.say(progress.summary(now))
        self.say(f"\nIndexed\n\n{report.describe_indexed(result.indexed)}")
        if result.failures:
            self.say(f"\nFailed\n\n{report.describe_failures(result.failures)}")
        self.say(f"\nSearches\n\n{search.describe(result.searches)}")
        self.say(f"\nLook further; the data stay\n\n{_look_further(dsn)}")


class _Json:
    """Tells a program what came of the run, on one line, and of each file that is followed."""

    def say(self, text: str = "") -> None:
        pass

    def show(self, now: Progress) -> None:
        pass

    def tell(self, change: Change) -> None:
        print_json(asdict(change))

    def end(self, dsn: str, now: Progress, result: Report) -> None:
        print_json(
            {
                "dsn": dsn,
                **asdict(now),
                "indexed": len(result.indexed),
                "failures": [
                    {"document": each.document, "code": each.code, "detail": each.detail}
                    for each in result.failures
                ],
                "searches": [asdict(hits) for hits in result.searches],
            }
        )


async def _run(
    dsn: str, selection: Selection, *, root: Path | None, shown: _Screen | _Json
) -> bool:
    """Carry the documents, report, and follow the files below *root*; return whether all ended."""
    stop = _stop_on_signals()
    found = selection.documents
    shown.say(f"{len(found):,} documents, {len(selection.unreadable):,} files cannot be read")
    async with serving(dsn) as engine:
        now = await carry(engine, dsn, found, stop=stop, audience=shown)
        if not now.is_complete:
            shown.say("Stopping when the steps that run have ended")
            return False
        shown.end(dsn, now, await asyncio.to_thread(fetch_report, dsn))
        if root is not None:
            shown.say(f"\nFollowing the files below {root} until Ctrl-C")
            await follow(engine, dsn, root, found=found, stop=stop, audience=shown)
    return True


def _stop_on_signals() -> asyncio.Event:
    """Return what the first Ctrl-C sets; the second ends the program as ever."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def take() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, take)
    return stop


def _select(path: Path | None, *, inbox: Path | None, home: Path) -> Selection:
    if path is not None:
        return discover.everything_below(path)
    prepare_corpus(home)
    selection = discover.mixture(home)
    if inbox is not None:
        selection.documents += discover.everything_below(inbox).documents
    return selection


def _inbox(home: Path) -> Path:
    inbox = home / _INBOX
    inbox.mkdir(exist_ok=True)
    return inbox


def _look_further(dsn: str) -> str:
    program = _program()
    return "\n".join(
        f"  {command}"
        for command in (
            psql_line(dsn),
            f"{program} process list --namespace documents --status error",
            f"{program} task list --namespace documents",
            f"{program} demo --watch",
            f"{program} db stop",
        )
    )


def _program() -> str:
    """Return how this program is called from here."""
    is_on_path = shutil.which("pgprog") is not None
    return "pgprog" if is_on_path else shlex.quote(os.path.relpath(sys.argv[0]))


def _again() -> str:
    return shlex.join([_program(), *sys.argv[1:]])
