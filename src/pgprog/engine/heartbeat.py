"""The proof of life: a thread that renews the lease as long as the engine's loop ticks."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Protocol

from pgprog import logs
from pgprog.errors import LeaseLost, StoreUnavailable
from pgprog.store.faults import OUTLIVED

if TYPE_CHECKING:
    import asyncio
    from datetime import timedelta

    from pgprog.store.renewals import Renewals

log = logs.get(__name__)

_RETRY_SECONDS = 0.2


class Owner(Protocol):
    """The worker, as far as renewals need it."""

    worker_id: int
    ticked_at: float

    def begun(self) -> list[int]:
        """Return the tasks whose handlers have started; called from the thread."""
        ...

    def renewed(self, worker_id: int, claims: list[tuple[int, int]], asked_at: float) -> None:
        """Take what the database says is held, by a renewal sent at *asked_at*, monotonic."""
        ...

    def ended(self, worker_id: int) -> None:
        """Learn that a collector has ended this incarnation."""
        ...

    def failed(self, error: Exception) -> None:
        """Learn that nothing is renewed any more: the error is none that passes."""
        ...


class Heartbeat:
    """Renews the lease of *owner* every *every*, at once when asked to.

    It has its own connection, so that neither a busy loop nor a full pool delays it; but it stops
    when the loop has not ticked for half a lease: a loop that hangs must lose its tasks.  *answers*
    counts what the database said to it, refusals too.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        renewals: Renewals,
        lease: timedelta,
        every: timedelta,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.answers = 0
        self._owner = owner
        self._renewals = renewals
        self._lease = lease
        self._every_seconds = every.total_seconds()
        self._patience_seconds = lease.total_seconds() / 2
        self._loop = loop
        self._awake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="pgprog heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def renew_now(self) -> None:
        """Renew at once: an answer was lost, and the renewal tells what is really held."""
        self._awake.set()

    def stop(self) -> None:
        """Renew no more; a renewal in flight ends by itself."""
        self._is_stopping = True
        self._awake.set()

    def _run(self) -> None:
        # The loop is closed when the program ends without stopping us.
        with contextlib.suppress(RuntimeError):
            while not self._is_stopping:
                self._awake.clear()
                pause = self._every_seconds if self._beat() else _RETRY_SECONDS
                self._awake.wait(pause)
        self._renewals.close()

    def _beat(self) -> bool:
        """Renew once; return whether the next one is due after a whole interval."""
        if time.monotonic() - self._owner.ticked_at > self._patience_seconds:
            log.error("loop_hangs", worker_id=self._owner.worker_id)
            return False
        worker_id = self._owner.worker_id
        asked_at = time.monotonic()
        try:
            claims = self._renewals.renew_worker(worker_id, self._lease, self._owner.begun())
        except LeaseLost:
            self.answers += 1
            self._loop.call_soon_threadsafe(self._owner.ended, worker_id)
            return True
        except OUTLIVED as e:
            if not isinstance(e, StoreUnavailable):
                self.answers += 1
            log.warning("renewal_failed", worker_id=worker_id, detail=str(e))
            return False
        except Exception as e:
            self._loop.call_soon_threadsafe(self._owner.failed, e)
            raise
        self.answers += 1
        self._loop.call_soon_threadsafe(self._owner.renewed, worker_id, claims, asked_at)
        return True
