"""One child process, as its worker sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.spawn import get_executable
from typing import TYPE_CHECKING, Any, Self

from pgprog.codec import encode
from pgprog.engine.children import wire

if TYPE_CHECKING:
    from pgprog.config import NamespaceSettings
    from pgprog.engine.holdings import Held

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from pgprog.engine.children.main import main; main(int(sys.argv[1]), int(sys.argv[3]))"
)
_START_SECONDS = 60.0
# To complete, commit or undo: one that stands still must not hold its process for ever.
_ANSWER_SECONDS = 60.0
# What a dead child said last is still in the socket: it comes at once or never.
_LAST_WORDS_SECONDS = 0.5


class ChildUnavailable(Exception):  # noqa: N818 - what happened; it never leaves the engine
    """There is no child process for a step: it cannot be started, or cannot import the handlers."""


class ChildProcess:
    """Runs a step at a time, in a session of its own, so that it is killed with all it started.

    *faults* says by namespace what it could not import, *steps* counts what it was given.  It
    ends with its worker, whatever ends that one: the kernel kills it, and where it does not the
    child sees the end of its socket.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.faults: dict[str, str] = {}
        self.has_begun = False
        self.is_busy = False
        self.steps = 0
        self._process = process
        self._reader = reader
        self._writer = writer
        self._told: dict[str, NamespaceSettings] = {}
        loop = asyncio.get_running_loop()
        self.death: asyncio.Future[None] = loop.create_future()
        self.death.add_done_callback(self._bury)
        waiting = (process, loop, self.death)
        threading.Thread(target=_wait, args=waiting, name="pgprog child watch", daemon=True).start()

    @classmethod
    async def start(cls, hello: wire.Hello, *, alive: int) -> ChildProcess:
        """Start one, and return it when it has imported the handlers, or some of them.

        *alive* is the descriptor of the `Alive` that it watches.

        Raises:
            ChildUnavailable: It cannot be started, or ended before it was ready.
        """
        try:
            child = await cls._begin(alive)
        except (OSError, RuntimeError, TypeError) as e:  # no file, process or thread is left for it
            msg = f"a child process cannot be started: {e}"
            raise ChildUnavailable(msg) from e
        try:
            await child._greet(hello)  # noqa: SLF001 - our own
        except BaseException:
            await child.end()
            raise
        return child

    @classmethod
    async def _begin(cls, alive: int) -> Self:
        """Return one that has been told nothing yet; what fails leaves nothing behind."""
        program = [get_executable(), "-c", _PROGRAM]
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as failing:
            failing.callback(ours.close)
            with theirs:
                # In this thread: the kernel kills the child when the thread that made it ends.
                process = subprocess.Popen(  # noqa: ASYNC220 - it returns as soon as it has begun
                    [*program, str(theirs.fileno()), json.dumps(sys.path), str(alive)],
                    pass_fds=[theirs.fileno(), alive],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            failing.callback(process.wait)
            failing.callback(process.kill)
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            failing.callback(writer.close)
            child = cls(process, reader, writer)
            failing.pop_all()
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_well(self) -> bool:
        """Whether it may be given a step."""
        return not self.is_busy and not self.death.done()

    @property
    def exit_code(self) -> int | None:
        """What it ended with, minus a signal's number; None while it lives."""
        return self._process.returncode

    async def run(
        self, held: Held, settings: NamespaceSettings, *, worker_id: int
    ) -> wire.Ended | None:
        """Run a step and return how it ended, None where the child died.

        Then *has_begun* says whether the step had begun.  A step with a transaction keeps the
        child busy until that is committed or undone by `ask`.
        """
        claimed = held.claimed
        self.is_busy = True
        self.has_begun = False
        self.steps += 1
        plain = None
        if self._told.get(claimed.namespace) is not settings:
            plain = encode(settings.to_json(), field="settings", limit=1 << 20)
            self._told[claimed.namespace] = settings
        level = logging.getLogger("pgprog").getEffectiveLevel()
        self._send(wire.Run(claimed, plain, level, worker_id, {**(held.carried or {})}))
        message = await self._receive()
        if isinstance(message, wire.Begun):
            self.has_begun = True
            message = await self._receive()
        if not isinstance(message, wire.Ended):
            await self.end()
            return None
        self.is_busy = message.has_transaction
        return message

    async def ask(self, message: wire.ToChild) -> wire.Answered | None:
        """Say something about the transaction of the step; None where the child died.

        One that does not answer within a minute is killed.
        """
        self._send(message)
        answer = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                answer = await self._receive()
        if not isinstance(answer, wire.Answered):
            await self.end()
            return None
        self.is_busy = isinstance(message, wire.Complete)
        return answer

    async def end(self) -> None:
        """Kill it with all it started, and return when it is gone."""
        self.kill()
        await asyncio.wait([self.death])

    def kill(self) -> None:
        """Kill it with all it started; harmless when it is dead."""
        if not self.death.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _greet(self, hello: wire.Hello) -> None:
        self._send(hello)
        try:
            async with asyncio.timeout(_START_SECONDS):
                loaded = await self._receive()
        except TimeoutError as e:
            msg = f"a child process did not import its handlers within {_START_SECONDS:g} s"
            raise ChildUnavailable(msg) from e
        if not isinstance(loaded, wire.Loaded):
            await self.end()
            msg = f"a child process ended while it imported its handlers: exit {self.exit_code}"
            raise ChildUnavailable(msg)
        self.faults = loaded.faults

    def _send(self, message: wire.ToChild) -> None:
        self._writer.write(wire.pack(message))

    async def _receive(self) -> wire.FromChild | None:
        """Return what it says next, None when it is dead or makes no sense."""
        reading = asyncio.ensure_future(wire.receive(self._reader))
        try:
            either: list[asyncio.Future[Any]] = [reading, self.death]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                # Something that it started holds the other end of the socket.
                await asyncio.wait([reading], timeout=_LAST_WORDS_SECONDS)
            if not reading.done():
                return None
            return wire.from_child.decode(reading.result())
        except (EOFError, OSError, ValueError):  # msgspec's own is a ValueError
            return None
        finally:
            reading.cancel()

    def _bury(self, _death: asyncio.Future[None]) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # what it has started goes with it
        self._process.wait()
        self._writer.close()


def _wait(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, death: asyncio.Future[Any]
) -> None:
    """Tell *death* when *process* has ended; its id stays its own until it is buried."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested
        loop.call_soon_threadsafe(_tell, death)


def _tell(death: asyncio.Future[Any]) -> None:
    if not death.done():
        death.set_result(None)
