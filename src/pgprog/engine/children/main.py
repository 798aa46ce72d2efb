"""What runs in a child process: one step after the other, as its worker says."""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from pgprog import logs
from pgprog.config import NamespaceSettings
from pgprog.engine.attempt import Attempts
from pgprog.engine.children import wire
from pgprog.engine.children.alive import Alive, Watch
from pgprog.engine.holdings import Holdings
from pgprog.engine.runner import Runner
from pgprog.errors import ConfigError
from pgprog.namespace.origins import importing, load_origin
from pgprog.store.engine_store import EngineStore
from pgprog.store.transactions import StepTransactions

if TYPE_CHECKING:
    from pgprog.engine.access import OpenTransaction
    from pgprog.engine.holdings import Held
    from pgprog.namespace import Namespace
    from pgprog.store.rows import Completion

_NAME = "pgprog child"
_PR_SET_PDEATHSIG = 1


def main(descriptor: int, alive: int) -> NoReturn:
    """Serve the worker at the other end of a socket until it is gone, or *alive* no more."""
    _follow_parent()
    with suppress(OSError, ValueError, AttributeError):
        faulthandler.enable()  # what kills a child is to be seen
    connection = socket.socket(fileno=descriptor)
    connection.set_inheritable(False)
    with suppress(EOFError, OSError):
        hello = wire.to_child.decode(wire.receive_blocking(connection))
        if isinstance(hello, wire.Hello):
            logs.configure(format=hello.log_format, level=hello.log_level)
            loaded, faults = _load(hello)
            connection.sendall(wire.pack(wire.Loaded(faults)))
            watch = Watch(Alive.of(alive), connection)
            asyncio.run(_serve(connection, hello=hello, loaded=loaded, watch=watch))
    _flush()
    os._exit(0)  # threads of handlers must not keep it alive


def _follow_parent() -> None:
    """Die with the worker, and not before it: signals to the whole service are for the worker."""
    parent = os.getppid()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which programs that a handler starts would inherit.
        signal.signal(number, lambda *_: None)


def _load(hello: wire.Hello) -> tuple[dict[str, Namespace[Any]], dict[str, str]]:
    """Return the namespaces that can be imported, and what is wrong with the others."""
    loaded: dict[str, Namespace[Any]] = {}
    faults: dict[str, str] = {}
    importing.set()
    for name, origin in hello.origins.items():
        try:
            loaded[name] = load_origin(origin, name=name)
        except ConfigError as e:
            faults[name] = str(e)
    importing.clear()
    return loaded, faults


async def _serve(
    connection: socket.socket,
    *,
    hello: wire.Hello,
    loaded: dict[str, Namespace[Any]],
    watch: Watch,
) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    child = _Child(hello, loaded, writer, watch)
    while True:
        child.hear(wire.to_child.decode(await wire.receive(reader)))


class _Child:
    """The step that runs, and what becomes of its end: the worker is told, and says what to do."""

    def __init__(
        self,
        hello: wire.Hello,
        loaded: dict[str, Namespace[Any]],
        writer: asyncio.StreamWriter,
        watch: Watch,
    ) -> None:
        self.worker_id = 0
        self._watch = watch
        self._loaded = loaded
        self._served: dict[str, Namespace[Any]] = {}
        self._writer = writer
        self._words: asyncio.Queue[wire.ToChild] = asyncio.Queue()
        self._holdings = Holdings()
        attempts = Attempts(
            self._served,
            store=EngineStore(hello.dsn, name=_NAME, encryption=hello.encryption),
            transactions=StepTransactions(
                hello.dsn, size=1, lease=hello.lease, name=_NAME, encryption=hello.encryption
            ),
            concurrency=1,
        )
        self._runner = Runner(
            attempts,
            concurrency=1,
            holdings=self._holdings,
            lease=self,
            endings=self,
            on_free=lambda: None,
        )

    def hear(self, message: wire.ToChild) -> None:
        """Take a word of the worker."""
        if not isinstance(message, wire.Run):
            self._words.put_nowait(message)
            return
        name = message.claimed.namespace
        if message.settings is not None:
            settings = NamespaceSettings.from_json(json.loads(message.settings))
            self._served[name] = self._loaded[name].with_settings(settings)
        logs.set_level(message.log_level)
        self.worker_id = message.worker_id
        self._say(wire.Begun())
        self._watch.begin()
        held = self._holdings.add(message.claimed, since=self._holdings.drops)
        held.carried = message.carried
        self._runner.take(held)

    def check(self) -> None:
        """Do nothing: the worker has looked at its clock."""

    async def report_begun(self) -> None:
        """Do nothing: the worker has reported."""

    def add(self, held: Held, completion: Completion) -> None:
        """Tell how the step ended."""
        self._end(held, wire.Ended(completion))

    def give_back(self, held: Held) -> None:
        """Tell that it was interrupted."""
        self._end(held, wire.Ended(None))

    def broke(self, _: Held) -> None:
        """End this process, as a crash of the step: the worker counts it."""
        raise SystemExit(os.EX_SOFTWARE)

    async def commit(
        self, held: Held, completion: Completion, transaction: OpenTransaction
    ) -> None:
        """Tell how it ended, and do with its transaction what the worker says."""
        self._end(held, wire.Ended(completion, has_transaction=True))
        is_open = True
        while is_open:
            word = await self._words.get()
            is_open = isinstance(word, wire.Complete)
            self._say(await _obeyed(word, completion, transaction))

    def _end(self, held: Held, ended: wire.Ended) -> None:
        self._holdings.remove(held)
        if self._runner.stragglers:
            _flush()
            return  # the worker's time for the step is over, too, and it kills us: none may follow
        self._watch.over()  # what is left to do the database guards
        _flush()  # it may be killed at any time from here
        self._say(ended)

    def _say(self, message: wire.FromChild) -> None:
        self._writer.write(wire.pack(message))


async def _obeyed(
    word: wire.ToChild, completion: Completion, transaction: OpenTransaction
) -> wire.Answered:
    completed = None
    try:
        match word:
            case wire.Complete():
                completed = await transaction.complete(word.worker_id, completion, chain=word.chain)
            case wire.Commit():
                await transaction.commit()
            case _:
                await transaction.rollback()
    except Exception as e:  # noqa: BLE001 - the worker raises it
        return wire.Answered(error=type(e).__name__, detail=str(e))
    return wire.Answered(completed)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
