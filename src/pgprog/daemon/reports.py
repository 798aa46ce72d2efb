"""Tells the database which workers are dead, in a thread of its own, until it has heard it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.errors import PgprogError
from pgprog.metrics import Metrics
from pgprog.store.deaths import open_deaths
from pgprog.store.faults import RolledBack

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logs.get(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
# A database that is gone for longer has collectors, some time after it came back.
_GIVE_UP_SECONDS = 300.0


class Reports:
    """The workers that the database must hear of; *namespaces* are those that they served.

    While there are none it holds no connection.
    """

    def __init__(
        self, dsn: str, *, namespaces: Sequence[str], metrics: Metrics | None = None
    ) -> None:
        self._metrics = metrics or Metrics()
        self._dsn = dsn
        self._namespaces = namespaces
        self._changed = threading.Condition()
        self._dead: dict[int, float] = {}
        thread = threading.Thread(target=self._run, name="pgprog reports", daemon=True)
        thread.start()

    def add(self, worker_id: int) -> None:
        """Report an incarnation whose program was waited for: it sends nothing any more."""
        with self._changed:
            self._dead[worker_id] = time.monotonic()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all is reported; return whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._dead, seconds)

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dead)
                worker_ids = [*self._dead]
            self._report(worker_ids)
            with self._changed:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                if not any(worker_id in self._dead for worker_id in worker_ids):
                    pause = _FIRST_PAUSE_SECONDS
                elif len(self._dead) <= len(worker_ids):
                    self._changed.wait(pause)

    def _report(self, worker_ids: Sequence[int]) -> None:
        """Tell of each in a transaction of its own: one that must wait holds up no other."""
        try:
            with open_deaths(self._dsn, name="pgprog supervisor") as deaths:
                for worker_id in worker_ids:
                    try:
                        tasks = deaths.end_worker(worker_id)
                    except RolledBack as e:
                        log.warning("report_failed", worker_id=worker_id, detail=str(e))
                        continue
                    log.info("worker_reported", worker_id=worker_id, tasks=tasks)
                    self._metrics.zombies.add(by=tasks)
                    if tasks:  # at once: the next one may wait for a lock
                        deaths.announce_due(self._namespaces)
                    self._forget(worker_id)
        except (PgprogError, RolledBack) as e:
            log.warning("reports_without_database", detail=str(e))
            self._give_up(worker_ids)

    def _forget(self, worker_id: int) -> None:
        with self._changed:
            self._dead.pop(worker_id, None)
            self._changed.notify_all()

    def _give_up(self, worker_ids: Sequence[int]) -> None:
        """Leave to the collectors what nobody could be told of for long."""
        long_ago = time.monotonic() - _GIVE_UP_SECONDS
        for worker_id in worker_ids:
            if self._dead.get(worker_id, long_ago) < long_ago:
                log.error("report_given_up", worker_id=worker_id)
                self._forget(worker_id)
