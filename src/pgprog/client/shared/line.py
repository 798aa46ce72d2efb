"""A client's line to a shared reader: kept open, and never waited for when there is none."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from pgprog import logs
from pgprog.client.shared import wire
from pgprog.client.shared.watches import Watches
from pgprog.errors import PgprogError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgprog.cache.entries import Key

log = logs.get(__name__)

_Reply: TypeAlias = wire.Answer | wire.Watched | wire.Told | None

_HINT: Final = "`pgprog worker --only reader` is one; what is read comes from PostgreSQL meanwhile"
# A reader answers within a quarter of a second, if only that PostgreSQL be asked.  A late look is
# no silence of the reader: so many of our own turns have to pass.
_TURN_SECONDS, _TURNS = 0.05, 10
_SILENT: Final = "the reader does not answer"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Unfit(Exception):  # noqa: N818 - what the reader is
    """There is no reader that could be asked; the message says why."""


class HungUp(Unfit):
    """It went away."""


class Line:
    """Keeps a connection to the reader at *path*; *on_open* is called with each that is made.

    *find_database* tells which database this client reads: a reader of another one is not asked.
    """

    def __init__(
        self,
        path: str,
        *,
        find_database: Callable[[], Awaitable[str]],
        on_open: Callable[[wire.Welcome], None],
    ) -> None:
        self._path = path
        self._find_database = find_database
        self._on_open = on_open
        self._connection: _Connection | None = None
        self._said = ""

    @property
    def is_open(self) -> bool:
        """Whether there is a reader to be asked."""
        return self._connection is not None

    async def ask(self, question: wire.Question) -> wire.Answer | None:
        """Return the answer; None to ask PostgreSQL, for whatever reason."""
        connection = self._connection
        if connection is None or connection.is_lost:
            return None
        reply = await connection.ask(question)
        return reply if type(reply) is wire.Answer else None

    async def watch(self, key: Key, call: Callable[[], None]) -> wire.Watched | None:
        """Have *call* called when the reader tells of a change, or goes; None if it does not."""
        connection = self._connection
        if connection is None or connection.is_lost:
            return None
        return await connection.watch(key, call)

    def unwatch(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call."""
        if self._connection is not None:
            self._connection.unwatch(key, call)

    async def run(self) -> None:
        """Keep the line until cancelled: what is lost is tried again, later and later."""
        pause, clock = _FIRST_PAUSE, asyncio.get_running_loop().time
        while True:
            began_at = clock()
            try:
                await self._hold()
            except HungUp:
                pass  # one that is started anew is there in a moment
            except Unfit as e:
                self._say(f"{self._path}: {e}")
            pause = _FIRST_PAUSE if clock() - began_at > _LONGEST_PAUSE else 2 * pause
            await asyncio.sleep(min(pause, _LONGEST_PAUSE) * random.uniform(0.5, 1.0))

    async def _hold(self) -> None:
        """Hold one connection from its greeting to its end.

        Raises:
            Unfit: Why it came to an end, or not so far.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TURNS * _TURN_SECONDS):
                transport, connection = await loop.create_unix_connection(_Connection, self._path)
        except OSError as e:  # a time-out, too
            msg = f"no reader listens: {e.strerror or 'it does not take the connection'}"
            raise Unfit(msg) from e
        try:
            welcome = await self._greeted(connection)
            if self._said:
                log.info("reader_connected", path=self._path)
                self._said = ""
            self._on_open(welcome)
            self._connection = connection
            await connection.wait_lost()
        finally:
            self._connection = None
            transport.abort()
            connection.connection_lost(None)

    async def _greeted(self, connection: _Connection) -> wire.Welcome:
        try:
            async with asyncio.timeout(_TURNS * _TURN_SECONDS):
                welcome = await connection.welcome
        except TimeoutError as e:
            raise Unfit(_SILENT) from e
        try:
            database = await self._find_database()
        except PgprogError as e:
            raise Unfit(str(e)) from e
        if welcome.database != database:
            msg = f"the reader reads {welcome.database}, this program {database}"
            raise Unfit(msg)
        return welcome

    def _say(self, why: str) -> None:
        if why != self._said:
            log.warning("reader_lost", detail=why, hint=_HINT)
        self._said = why


class _Connection(asyncio.BufferedProtocol):
    """One connection; a lone question is sent at once, those beside it travel together."""

    def __init__(self) -> None:
        self._buffer = wire.buffer()
        self._loop = asyncio.get_running_loop()
        self.welcome: asyncio.Future[wire.Welcome] = self._loop.create_future()
        self._lost: asyncio.Future[Unfit] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_greeted = False
        self._number = 0
        self._unsent: list[bytes] = []
        # What waits, by number, with the turn in which it was asked; the oldest first.
        self._waiting: dict[int, tuple[asyncio.Future[_Reply], int]] = {}
        self._watches = Watches()
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._lost.done()

    def ask(self, question: wire.Question | wire.Watch) -> asyncio.Future[_Reply]:
        """Ask; what is returned will have the answer, None when there is none here."""
        number = self._number = (self._number + 1) % (1 << 32)
        answer: asyncio.Future[_Reply] = self._loop.create_future()
        framed = wire.framed(msgspec.structs.replace(question, number=number))
        if not self._waiting and self._transport is not None:
            self._transport.write(framed)
        else:
            if not self._unsent:
                self._loop.call_soon(self._send)
            self._unsent.append(framed)
        self._waiting[number] = answer, self._turn
        if self._timer is None:
            self._timer = self._loop.call_later(_TURN_SECONDS, self._look)
        return answer

    async def watch(self, key: Key, call: Callable[[], None]) -> wire.Watched | None:
        """Have *call* called when the reader tells of a change, or goes."""
        watch = self._watches.add(key, call)
        reply = await self.ask(wire.Watch(0, watch, *key))
        return reply if isinstance(reply, wire.Watched) else None

    def unwatch(self, key: Key, call: Callable[[], None]) -> None:
        """Do not call."""
        watch = self._watches.drop(key, call)
        if watch is not None and self._transport is not None and not self.is_lost:
            self._transport.write(wire.framed(wire.Unwatch(watch)))

    async def wait_lost(self) -> None:
        """Wait for the end of the connection.

        Raises:
            Unfit: Why it ended.
        """
        raise await asyncio.shield(self._lost)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that of a socket is one
        self._transport = transport
        transport.write(wire.GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Have what the reader says read into the same place again and again."""
        del sizehint
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the reader says."""
        data = bytes(self._buffer[:nbytes])
        try:
            self._take(self._rest + data if self._rest else data)
        except wire.Malformed as e:
            self._fail(Unfit(f"the reader says what nobody understands: {e}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what waits."""
        del exc
        self._fail(HungUp("the reader hung up"))

    def _take(self, data: bytes) -> None:
        if not self._is_greeted:
            if len(data) < len(wire.GREETING):
                self._rest = data
                return
            if data[: len(wire.GREETING)] != wire.GREETING:
                self._fail(_stranger(data[: len(wire.GREETING)]))
                return
            data, self._is_greeted = data[len(wire.GREETING) :], True
        frames, self._rest = wire.cut(data, most=wire.MOST_ANSWER_BYTES)
        if frames and not self.welcome.done():
            self.welcome.set_result(wire.welcome(frames.pop(0)))
        for frame in frames:
            number, answer = wire.answer(frame)
            if type(answer) is wire.Told:
                self._watches.tell(number)
                continue
            waiting = self._waiting.pop(number, None)
            if waiting is not None and not waiting[0].done():
                waiting[0].set_result(answer)

    def _send(self) -> None:
        if self._transport is not None and not self._lost.done():
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _look(self) -> None:
        """Give up a reader that has been silent for too long."""
        self._timer = None
        self._turn += 1
        if not self._waiting:
            return
        _, asked = next(iter(self._waiting.values()))
        if self._turn - asked > _TURNS:
            self._fail(Unfit(_SILENT))
        else:
            self._timer = self._loop.call_later(_TURN_SECONDS, self._look)

    def _fail(self, why: Unfit) -> None:
        if self._lost.done():
            return
        self._lost.set_result(why)
        if self._timer is not None:
            self._timer.cancel()
        if not self.welcome.done():
            self.welcome.set_exception(why)
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_result(None)
        self._waiting.clear()
        self._watches.tell_all()
        if self._transport is not None:
            self._transport.abort()


def _stranger(greeting: bytes) -> Unfit:
    if greeting.startswith(wire.MAGIC):
        theirs = greeting[-1]
        older = "the reader" if theirs < wire.VERSION else "this program"
        msg = f"the reader speaks version {theirs}, this program {wire.VERSION}: renew {older}"
        return Unfit(msg)
    return Unfit("who listens there is no reader")
