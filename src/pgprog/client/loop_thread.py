"""An event loop in a thread of its own, for programs that have none."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from pgprog.errors import StoreUnavailable

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine

T = TypeVar("T")

# What a step that will not be cancelled may hold up the end of a program.
_CANCEL_SECONDS = 1.0


class LoopThread:
    """Runs coroutines for blocking callers, any number of threads at once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._taking = threading.Lock()
        self._closing = threading.Lock()
        self._is_ending = False
        self._thread = threading.Thread(target=self._run, name="pgprog loop", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs in it any more, or this is a forked child, where it never ran."""
        return not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what *work* returns; an interrupt cancels it.

        Raises:
            StoreUnavailable: The loop has ended, or this is a forked child, where it never ran.
        """
        if threading.current_thread() is self._thread:
            work.close()
            msg = "a blocking client was used inside its own event loop"
            raise RuntimeError(msg)
        future = self._taken(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close_after(self, work: Coroutine[Any, Any, object]) -> None:
        """End the loop behind *work*; of several threads one does, and the others wait for it."""
        with self._closing:
            if self.has_ended:
                work.close()
                return
            try:
                self.run(work)
            finally:
                self.close()

    def close(self) -> None:
        """End the loop and its thread; what still runs in it is cancelled."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _taken(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        if not self.has_ended:  # in a forked child nobody may be left to let go of the lock
            with self._taking:
                if not self._is_ending:
                    return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        msg = "the client is closed"
        raise StoreUnavailable(msg, hint="open it in the process that uses it")

    def _run(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            with self._taking:  # what comes from here on would be waited for in vain
                self._is_ending = True
            self._loop.run_until_complete(asyncio.sleep(0))  # what was taken has its task then
            tasks = asyncio.all_tasks(self._loop)
            for task in tasks:
                task.cancel()
            if tasks:
                self._loop.run_until_complete(asyncio.wait(tasks, timeout=_CANCEL_SECONDS))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
