"""The child processes of one worker: started when needed, kept while they are well."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.engine.children import wire
from pgprog.engine.children.alive import Alive
from pgprog.engine.children.process import ChildProcess, ChildUnavailable
from pgprog.errors import ConfigError
from pgprog.namespace.origins import find_origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import timedelta

    from pgprog.encryption import Encryption
    from pgprog.namespace import Namespace
    from pgprog.namespace.origins import Origin

log = logs.get(__name__)

_IDLE_SECONDS = 60.0
_HINT = (
    "make the Namespace a global of a module, or of a script whose start is guarded by"
    ' `if __name__ == "__main__":`, or use isolation thread'
)


class AllBusy(Exception):  # noqa: N818 - what happened; it never leaves the engine
    """No child process has become free for a while."""


class Children:
    """At most *most* child processes that can run the handlers of *namespaces*.

    One that has had no step for a minute is ended.  *are_all_busy* says that somebody has waited in
    vain for one; *on_free* is called when that is over.
    """

    def __init__(
        self,
        namespaces: Sequence[Namespace[Any]],
        *,
        dsn: str,
        lease: timedelta,
        most: int,
        encryption: Encryption | None = None,
    ) -> None:
        self.are_all_busy = False
        self.on_free: Callable[[], None] = lambda: None
        self._frees = 0
        self._encryption = encryption
        self._namespaces = {namespace.name: namespace for namespace in namespaces}
        self._dsn = dsn
        self._lease = lease
        self._alive = Alive.make()
        self._places = asyncio.Semaphore(most)
        self._origins: dict[str, Origin] | None = None
        self._faults: dict[str, str] = {}
        self._idle: list[ChildProcess] = []
        self._all: set[ChildProcess] = set()

    def can_run(self, namespace: str) -> bool:
        """Return whether a child process finds the handlers of *namespace*."""
        return namespace in self._found() and namespace not in self._faults

    async def check(self, names: Sequence[str]) -> None:
        """Check that a child process really imports the handlers of these namespaces.

        Raises:
            ConfigError: It does not; the message says of which, and why.
        """
        for name in names:
            if name not in self._found():
                msg = f"namespace {name}: isolation process, and no child process can import it"
                raise ConfigError(msg, hint=_HINT)
        for name in names:
            try:
                async with self._child(name):  # one more than most: those may be busy for long
                    pass
            except ChildUnavailable as e:
                msg = f"namespace {name}: isolation process, and {e}"
                raise ConfigError(msg, hint=_HINT) from e

    @asynccontextmanager
    async def one(self, namespace: str, *, patience: float | None) -> AsyncIterator[ChildProcess]:
        """Give a child process for one step, when one is free; it is killed if the block fails.

        Raises:
            AllBusy: None has become free for *patience*, in seconds; never where that is None.
            ChildUnavailable: None can be started, or none imports the handlers.
        """
        async with self._place(patience), self._child(namespace) as child:
            yield child

    def run_until(self, until: float) -> None:
        """Have them end by themselves if they still run a step then, monotonic."""
        self._alive.until = until

    async def close(self) -> None:
        """Kill them all, and return when they are gone."""
        await asyncio.gather(*(child.end() for child in [*self._all]))
        self._alive.close()

    @asynccontextmanager
    async def _place(self, patience: float | None) -> AsyncIterator[None]:
        while not await self._has_place(patience):
            pass
        try:
            yield
        finally:
            self._places.release()
            self._frees += 1
            if self.are_all_busy:
                self.are_all_busy = False
                self.on_free()

    async def _has_place(self, patience: float | None) -> bool:
        frees = self._frees
        try:
            async with asyncio.timeout(patience):
                await self._places.acquire()
        except TimeoutError:
            if self._frees == frees:
                self.are_all_busy = True
                raise AllBusy from None
            return False
        return True

    @asynccontextmanager
    async def _child(self, namespace: str) -> AsyncIterator[ChildProcess]:
        child = self._idle.pop() if self._idle else await self._start()
        try:
            _require(child, namespace)
            yield child
        except ChildUnavailable:
            raise
        except BaseException:
            child.kill()
            raise
        finally:
            self._keep(child)

    async def _start(self) -> ChildProcess:
        log_format, log_level = logs.configured()
        hello = wire.Hello(
            self._dsn, self._lease, self._found(), log_format, log_level, self._encryption
        )
        child = await ChildProcess.start(hello, alive=self._alive.descriptor)
        self._all.add(child)
        child.death.add_done_callback(lambda _: self._forget(child))
        for name, fault in child.faults.items():
            log.error("child_cannot_import", namespace=name, detail=fault)
        self._faults = child.faults
        return child

    def _keep(self, child: ChildProcess) -> None:
        if not child.is_well:
            child.kill()
            return
        self._idle.append(child)
        asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, child, child.steps)

    def _retire(self, child: ChildProcess, steps: int) -> None:
        if child in self._idle and child.steps == steps:
            self._idle.remove(child)
            child.kill()

    def _forget(self, child: ChildProcess) -> None:
        self._all.discard(child)
        if child in self._idle:
            self._idle.remove(child)

    def _found(self) -> dict[str, Origin]:
        if self._origins is None:
            found = {name: find_origin(each) for name, each in self._namespaces.items()}
            self._origins = {name: each for name, each in found.items() if each is not None}
        return self._origins


def _require(child: ChildProcess, namespace: str) -> None:
    if namespace in child.faults:
        raise ChildUnavailable(child.faults[namespace])
