"""`pgprog top`: queues, workers, rates and errors, live."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import termios
import tty
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import click

from pgprog.cli.arguments import read_duration
from pgprog.cli.asking import dsn_option, find_database, watch
from pgprog.cli.output import is_terminal, json_option, print_json, print_table
from pgprog.cli.overview import plain, tables
from pgprog.errors import ConfigError, Overloaded, StoreUnavailable
from pgprog.store.pool import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgprog.store.sight import Sight, SightStore

_EVERY = timedelta(seconds=2)
_SHARE = 20  # of the time at most a twentieth is the database's
_LONGEST_PAUSE = timedelta(minutes=1)
_PATIENCE_SECONDS = 5.0
_SILENCE = "no answer; what is below is old: pgprog doctor --only locks,transactions"


@click.command()
@click.option(
    "--every",
    callback=read_duration,
    metavar="DURATION",
    help="How often to look; default: 2s.  Without a terminal it looks once, unless this is given.",
)
@click.option("--once", is_flag=True, help="Look once, and end.")
@dsn_option
@json_option
def top(*, every: timedelta | None, once: bool, dsn: str | None, as_json: bool) -> None:
    """Watch namespaces, workers, rates and errors; q or Ctrl-C ends it.

    Namespaces that do not move come first; a small terminal has the first rows of each table, and
    fewer columns.  Rates are of the last ten seconds.  A database that
    needs long for it is asked less often: it spends at most a twentieth of its time.  With --json
    each look is a line.
    """
    is_live = is_terminal() and not as_json
    is_once = once or (every is None and not is_live)
    if is_live and not is_once:
        _watch_live(dsn, every or _EVERY)
        return

    async def work(store: SightStore) -> None:
        while True:
            sight = await store.look()
            if as_json:
                print_json(plain(sight))
            else:
                _print(sight)
            if is_once:
                return
            await asyncio.sleep(_pause(every or _EVERY, sight))

    watch(dsn, work)


def _print(sight: Sight) -> None:
    for table in tables(sight):
        click.echo(table.title)
        print_table(table.names, table.rows)
        click.echo()


def _pause(every: timedelta, sight: Sight | None) -> float:
    took = 0.0 if sight is None else sight.took
    return max(every.total_seconds(), min(_SHARE * took, _LONGEST_PAUSE.total_seconds()))


def _watch_live(dsn: str | None, every: timedelta) -> None:
    try:
        from pgprog.cli import screen  # noqa: PLC0415 - an extra
    except ImportError as e:
        msg = "a live view needs the package rich"
        raise ConfigError(msg, hint="pip install 'pgprog[cli]', or give --once") from e
    from rich.live import Live  # noqa: PLC0415

    place = place_of(find_database(dsn).dsn)

    async def work(store: SightStore) -> None:
        with Live(screen=True, auto_refresh=False) as live:

            def draw(sight: Sight | None, trouble: str | None) -> None:
                shown = [] if sight is None else tables(sight)
                heading = _heading(place, sight)
                frame = screen.Frame(heading=heading, tables=shown, trouble=trouble)
                live.update(frame, refresh=True)

            await _follow(store, draw, every)

    watch(dsn, work)


async def _follow(
    store: SightStore, draw: Callable[[Sight | None, str | None], None], every: timedelta
) -> None:
    """Look and draw until a key or a signal ends it, also where the database does not answer."""
    wake, stop = asyncio.Event(), asyncio.Event()
    sight: Sight | None = None
    trouble: str | None = None
    looking: asyncio.Future[Sight] | None = None
    with _keys(stop=stop, wake=wake):
        while not stop.is_set():
            if not wake.is_set():  # else the terminal was resized: the same once more
                looking = looking or asyncio.ensure_future(store.look())
                try:
                    if await _has_ended(looking, wake):
                        sight, trouble, looking = looking.result(), None, None
                    elif not wake.is_set():
                        trouble = _SILENCE
                except (StoreUnavailable, Overloaded) as e:
                    trouble, looking = f"{e}; what is below is old", None
            draw(sight, trouble)
            if not stop.is_set():
                wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_pause(every, sight)):
                        await wake.wait()
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])


async def _has_ended(looking: asyncio.Future[Sight], wake: asyncio.Event) -> bool:
    """Wait for a look, but no longer than people do, and return whether it has ended."""
    waking = asyncio.ensure_future(wake.wait())
    both: set[asyncio.Future[Sight] | asyncio.Future[Literal[True]]] = {looking, waking}
    first = asyncio.FIRST_COMPLETED
    await asyncio.wait(both, timeout=_PATIENCE_SECONDS, return_when=first)
    waking.cancel()
    return looking.done()


def _heading(place: str, sight: Sight | None) -> str:
    at = "" if sight is None else f"{sight.now.astimezone():%H:%M:%S}"
    return f"pgprog top  {place}  {at}  q ends it"


@contextlib.contextmanager
def _keys(*, stop: asyncio.Event, wake: asyncio.Event) -> Iterator[None]:
    """Obey keys and signals: q and Ctrl-C stop, another size of the terminal wakes."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        wake.set()

    def read() -> None:
        if sys.stdin.read(1) in {"q", "Q", ""}:
            end()

    handled: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGINT: end,
        signal.SIGTERM: end,
        signal.SIGWINCH: wake.set,
    }
    has_keys = sys.stdin.isatty()
    before = termios.tcgetattr(sys.stdin) if has_keys else None
    for number, handler in handled.items():
        loop.add_signal_handler(number, handler)
    try:
        if has_keys:
            tty.setcbreak(sys.stdin)
            loop.add_reader(sys.stdin.fileno(), read)
        yield
    finally:
        if before is not None:
            loop.remove_reader(sys.stdin.fileno())
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        for number in handled:
            loop.remove_signal_handler(number)
