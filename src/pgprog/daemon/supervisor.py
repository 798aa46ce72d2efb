"""Keeps several workers running, each a program of its own, and tells at once which have fallen."""

from __future__ import annotations

import contextlib
import math
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.daemon.link import ALIVE_SECONDS, MARGIN_SECONDS, Order
from pgprog.daemon.reload import needs_start, read_again
from pgprog.engine import sum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgprog.config import Config
    from pgprog.daemon.child import Child
    from pgprog.daemon.monitor import Fleet
    from pgprog.daemon.notify import Notifier
    from pgprog.daemon.reports import Reports

log = logs.get(__name__)

# A worker that lived so long fell over something new: its place is filled at once.
_STEADY_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_REPORT_SECONDS = 2.0
_MISSED = 3  # signs of progress that a worker of a busy machine may be late with
_COULD_NOT_START = 1
_SIGNALLED = 128


def pause_after(falls: int) -> float:
    """Return the seconds between a fall and the next start, for that many quick falls in a row."""
    if falls == 0:
        return 0.0
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(falls - 1, 10), _LONGEST_PAUSE_SECONDS)


@dataclass(slots=True, eq=False)
class _Place:
    """One of the workers, again and again; *falls* counts the last ones that did not live long."""

    child: Child | None = None
    starts_at: float = -math.inf
    falls: int = 0
    could_not_start: bool = False


class Supervisor:
    """Keeps the workers of *config* running until it is told to stop; *start* starts one.

    At SIGHUP *read* reads the configuration again, for the workers to take over.  *fleet* shows
    them to those who ask.

    A worker whose program has ended, however, is given to *reports* and started again; when the
    last ones did not live for ten seconds after half a second, then twice as long, up to eight.

    *manager* is told that the workers make progress.  If it waits for that, one that makes none for
    half of its time is killed.  Workers that hold too much memory are replaced one after another.
    """

    def __init__(
        self,
        *,
        start: Callable[[Config], Child],
        config: Config,
        read: Callable[[], Config],
        reports: Reports,
        fleet: Fleet,
        manager: Notifier,
    ) -> None:
        self._fleet = fleet
        self._manager = manager
        self._told_at = -math.inf
        self._is_reloading = False
        self._start = start
        self._first = self._config = config
        self._read = read
        self._reports = reports
        self._places = [_Place() for _ in range(config.worker.processes)]
        self._selector = selectors.DefaultSelector()
        self._is_stopping = False
        self._was_ready = False
        self._kills_at = math.inf
        self._code = 0

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT, or until none could start; return the exit code.

        0 after a stop, 1 when no worker could start or one had to be killed after its time, 128 and
        the signal's number after a second signal.
        """
        with _signals() as heard, self._selector:
            self._selector.register(heard, selectors.EVENT_READ)
            while not self._is_stopping or self._children():
                self._fill()
                self._listen(heard)
                self._bury()
                self._recycle()
                self._enforce()
                self._tell()
        if not self._reports.wait(_REPORT_SECONDS):
            log.warning("reports_left_to_collectors")
        log.info("supervisor_stopped", exit_code=self._code)
        return self._code

    def _children(self) -> list[Child]:
        return [place.child for place in self._places if place.child is not None]

    def _fill(self) -> None:
        """Start workers in the places whose pause is over."""
        for place in self._places:
            if self._is_stopping or place.child or place.starts_at > time.monotonic():
                continue
            try:
                place.child = self._start(self._config)
            except OSError as e:  # no memory, no process, no file is free
                place.falls += 1
                pause = pause_after(place.falls)
                place.starts_at = time.monotonic() + pause
                log.warning("worker_not_started", detail=str(e), pause_seconds=pause)
                continue
            self._selector.register(place.child.line, selectors.EVENT_READ, place.child)
            self._fleet.add(place.child.pid, place.child.view)

    def _listen(self, heard: socket.socket) -> None:
        """Wait for a signal, the word of a worker, or the next thing to do."""
        due = [place.starts_at for place in self._places if place.child is None]
        next_at = min(
            [
                self._kills_at,
                self._told_at + self._manager.every,
                *([] if self._is_stopping else due),
            ]
        )
        patience = max(0.0, next_at - time.monotonic())
        for key, _ in self._selector.select(patience):
            if key.data is None:
                for number in heard.recv(64):
                    self._obey(signal.Signals(number))
                continue
            if not key.data.hear():
                self._selector.unregister(key.fileobj)
            self._see_ready(key.data)

    def _see_ready(self, child: Child) -> None:
        if child.is_ready and not self._was_ready:
            self._was_ready = True
            self._manager.ready(child.status)

    def _obey(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP:
            self._reload()
        elif number != signal.SIGCHLD:
            self._stop(number)

    def _reload(self) -> None:
        """Read the configuration again, for the workers that run and those that come after."""
        if self._is_stopping:
            return
        self._manager.reloading()
        self._is_reloading = True
        config = read_again(self._read)
        if config is None:
            return
        logs.set_level(config.log.level)
        if left := needs_start(self._first, config):
            log.warning("reload_needs_start", settings=left)
        self._config = config
        for child in self._children():
            child.reload(config)

    def _bury(self) -> None:
        """Report the workers that have ended, and plan who comes in their places."""
        for place in self._places:
            child = place.child
            if child is None or (code := child.poll()) is None:
                continue
            self._see_ready(child)
            if child.worker_id is not None:
                self._reports.add(child.worker_id)
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.line)
            child.close()
            self._fleet.remove(child.pid)
            place.child = None
            self._plan(place, child, code)

    def _recycle(self) -> None:
        """Stop a worker that holds too much memory, once all the others serve."""
        children = self._children()
        are_there = len(children) == len(self._places) and all(c.is_ready for c in children)
        if self._is_stopping or not are_there or any(c.is_recycled for c in children):
            return
        for child in children:
            if child.is_full:
                child.is_recycled = True
                child.order(Order.STOP)
                return

    def _plan(self, place: _Place, child: Child, code: int) -> None:
        if self._is_stopping:
            log.info("worker_ended", pid=child.pid, ended=_how(code))
            return
        self._fleet.metrics.worker_falls.add()
        now = time.monotonic()
        lived = now - child.started_at
        is_steady = child.is_ready and lived >= _STEADY_SECONDS
        place.falls = 0 if is_steady else place.falls + 1
        place.could_not_start = code == _COULD_NOT_START and not child.is_ready
        pause = pause_after(place.falls)
        place.starts_at = now + pause
        say = log.info if child.is_recycled else log.warning
        say(
            "worker_recycled" if child.is_recycled else "worker_fell",
            pid=child.pid,
            worker_id=child.worker_id,
            ended=_how(code),
            lived_seconds=round(lived, 1),
            pause_seconds=pause,
        )
        if not self._was_ready and all(place.could_not_start for place in self._places):
            log.error("no_worker_could_start")
            self._code = _COULD_NOT_START
            self._end_all(Order.STOP_AT_ONCE, seconds=MARGIN_SECONDS)

    def _stop(self, number: signal.Signals) -> None:
        if not self._is_stopping:
            log.info("stopping", signal=number.name)
            seconds = self._stop_timeout().total_seconds()
            self._end_all(Order.STOP, seconds=seconds + MARGIN_SECONDS)
            return
        log.warning("stopping_at_once", signal=number.name)
        is_third = self._code >= _SIGNALLED
        self._code = _SIGNALLED + number
        self._end_all(Order.STOP_AT_ONCE, seconds=0.0 if is_third else MARGIN_SECONDS)

    def _stop_timeout(self) -> timedelta:
        """Return the longest of the workers that live: each keeps the one that it began with."""
        return max((child.stop_timeout for child in self._children()), default=timedelta(0))

    def _end_all(self, order: Order, *, seconds: float) -> None:
        self._is_stopping = True
        self._manager.stopping(self._stop_timeout())
        self._kills_at = time.monotonic() + seconds
        for child in self._children():
            child.order(order)
            if child.worker_id is None and not child.is_ready:
                child.kill()  # it has claimed nothing yet, and may not hear for long

    def _tell(self) -> None:
        """Tell the manager how the workers are, when it is time to."""
        if self._is_reloading and not any(child.reloads > 0 for child in self._children()):
            self._is_reloading = False
            self._manager.reloaded()
        now = time.monotonic()
        if now < self._told_at + self._manager.every:
            return
        self._told_at = now
        if not self._was_ready:
            return
        silent = self._silent(now)
        for child in silent:
            log.error("worker_hangs", pid=child.pid, worker_id=child.worker_id)
            child.abort()
        if self._is_stopping:
            self._manager.alive(f"stopping, {len(self._children())} workers are left")
        elif silent:
            self._manager.troubled(f"{len(silent)} workers make no progress")
        else:
            self._manager.alive(self._status())

    def _silent(self, now: float) -> list[Child]:
        """Return the workers that make no progress, if the manager waits for that."""
        if self._manager.watchdog_seconds is None or self._is_stopping:
            return []
        patience = max(self._manager.watchdog_seconds / 2, _MISSED * ALIVE_SECONDS)
        return [c for c in self._children() if c.is_ready and now - c.alive_at > patience]

    def _status(self) -> str:
        ready = [child.status for child in self._children() if child.is_ready]
        total = f"{len(ready)} of {len(self._places)} workers"
        return f"{total}: {sum_of(ready)}" if ready else total

    def _enforce(self) -> None:
        """Kill what did not end in its time."""
        if time.monotonic() < self._kills_at:
            return
        self._kills_at = math.inf
        self._code = self._code or 1
        for child in self._children():
            log.error("worker_killed", pid=child.pid, worker_id=child.worker_id)
            child.kill()


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}: {signal.strsignal(-code)}"


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give a socket from which the numbers of the signals that come in the block can be read."""
    heard, said = socket.socketpair()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    with heard, said:
        said.settimeout(0)
        before = signal.set_wakeup_fd(said.fileno())
        handlers = [signal.signal(number, _ignore) for number in numbers]
        try:
            yield heard
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)


def _ignore(_number: int, _frame: object) -> None:
    """Do nothing: the number is in the socket."""
