"""One client of a shared reader: its questions, and their answers from memory."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.cache.lease import NEVER
from pgprog.client.cached_reads import events_in
from pgprog.client.freshness import NO_EVENTS, Range, Wanted
from pgprog.client.shared import wire
from pgprog.daemon.reader.watching import Watches, Watching
from pgprog.errors import PgprogError
from pgprog.store.faults import RolledBack

if TYPE_CHECKING:
    from pgprog.cache.entries import Entry
    from pgprog.client.cached_reads import CachedReads, Found

log = logs.get(__name__)

# A millisecond or two: then others have their turn.
_A_TURN = 256
# Who takes none of his answers makes us hold no more than one turn of them.
_A_TURN_BYTES = 1 << 20
# Who waits longer for the stream, or for PostgreSQL, is told to ask there himself.
_PATIENCE_SECONDS = 0.25
_MOST_UNDER_WAY = 1000
_MOST_CLIENTS = 1000


class Answerer:
    """Answers what clients ask, from what *cached* keeps; *database* is the one that it reads."""

    def __init__(self, cached: CachedReads, *, database: str) -> None:
        self.clients: set[Client] = set()
        self.under_way: set[asyncio.Task[None]] = set()
        self.cached = cached
        self.buffer = wire.buffer()  # for all: what is read into it is taken before the next read
        self.welcome = wire.framed(wire.Welcome([*cached.cache.shelves], database))
        self.watching = Watching(cached)

    def client(self) -> Client:
        """Return what serves one more connection."""
        return Client(self)

    async def close(self) -> None:
        """Hang up on all, and give up what is under way."""
        for client in [*self.clients]:
            client.hang_up()
        for task in self.under_way:
            task.cancel()
        if self.under_way:
            await asyncio.wait(self.under_way)


class Client(asyncio.BufferedProtocol):
    """A connection; what it asks is answered at once if that takes no wait, in turns.

    Who does not take his answers is not read from until he does.
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._cached = answerer.cached
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._is_greeted = False
        self._is_choked = False
        self._frames: list[bytes] = []
        self._watches = Watches(answerer.watching, tell=self._tell)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, and say what is served."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - that of a socket is one
        self._transport = transport
        if len(self._answerer.clients) >= _MOST_CLIENTS:
            log.warning("reader_full", clients=_MOST_CLIENTS)
            transport.abort()
            return
        self._answerer.clients.add(self)
        transport.write(wire.GREETING + self._answerer.welcome)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        del exc
        self._transport = None
        self._frames.clear()
        self._watches.clear()
        self._answerer.clients.discard(self)

    def pause_writing(self) -> None:
        """Read no more: he does not take what he asked for."""
        self._is_choked = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._is_choked = False
        self._serve()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Have questions read into the one place."""
        del sizehint
        return self._answerer.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take questions."""
        data = self._rest + self._answerer.buffer[:nbytes]
        if not self._is_greeted:
            if not self._greeted(data):
                return
            data = data[len(wire.GREETING) :]
        try:
            frames, self._rest = wire.cut(data, most=wire.MOST_QUESTION_BYTES)
        except wire.Malformed as e:
            self._refuse(e)
            return
        self._frames += frames
        self._serve()

    def hang_up(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _greeted(self, data: bytes) -> bool:
        """Return whether the client has said that he speaks our version."""
        greeting = data[: len(wire.GREETING)]
        if not wire.GREETING.startswith(greeting):
            self._refuse(wire.Malformed(f"a greeting of another version: {greeting!r}"))
            return False
        self._is_greeted = greeting == wire.GREETING
        self._rest = b"" if self._is_greeted else data
        return self._is_greeted

    def _refuse(self, why: wire.Malformed) -> None:
        log.warning("reader_client_refused", detail=str(why))
        if self._transport is not None:
            self._transport.close()  # after our greeting, by which he sees what is wrong

    def _serve(self) -> None:
        """Answer a turn of questions; what is left waits for the next."""
        if self._transport is None or self._is_choked:
            return
        answers: list[bytes] = []
        size = 0
        try:
            for frame in self._frames[:_A_TURN]:
                answers.append(self._replied(wire.message(frame)))
                size += len(answers[-1])
                if size > _A_TURN_BYTES:
                    break
        except wire.Malformed as e:
            self._refuse(e)
            return
        del self._frames[: len(answers)]
        self._transport.write(b"".join(answers))
        if self._frames:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._serve)
        elif not self._is_choked:
            self._transport.resume_reading()

    def _replied(self, message: wire.Message) -> bytes:
        """Return what is to be said now."""
        if type(message) is wire.Question:
            return self._answered(message)
        if isinstance(message, wire.Watch):
            watched = self._watches.add(message)
            if watched is None:
                return wire.ask_postgresql(message.number)
            return wire.watched(message.number, watched)
        if isinstance(message, wire.Unwatch):
            self._watches.drop(message.watch)
        return b""

    def _tell(self, watch: int) -> None:
        if self._transport is not None:
            self._transport.write(wire.told(watch))

    def _answered(self, question: wire.Question) -> bytes:
        """Return the answer, an empty one if it will come later."""
        now = time.monotonic()
        if question.namespace not in self._cached.cache.shelves:
            return wire.ask_postgresql(question.number)
        changed_ago = question.changed_ago
        if changed_ago is not None and self._cached.cache.lease.as_of <= now - changed_ago:
            self._cached.pass_by(question.namespace)
            return wire.ask_postgresql(question.number)
        key = question.namespace, question.process_id
        since = NEVER if question.known_ago is None else now - question.known_ago
        wanted = Wanted(question.at_least, question.max_lag, since=since)
        found = self._cached.kept(key, _range_of(question), wanted)
        if found is not None:
            return self._packed(question, found)
        if len(self._answerer.under_way) >= _MOST_UNDER_WAY:
            self._cached.pass_by(question.namespace)
            return wire.ask_postgresql(question.number)
        task = asyncio.get_running_loop().create_task(self._find(question, wanted))
        self._answerer.under_way.add(task)
        task.add_done_callback(self._answerer.under_way.discard)
        return b""

    async def _find(self, question: wire.Question, wanted: Wanted) -> None:
        """Answer what the stream has not told yet, or what is not kept yet."""
        key, range_ = (question.namespace, question.process_id), _range_of(question)
        finding = asyncio.ensure_future(self._cached.find(key, range_, wanted))
        finding.add_done_callback(_take_failure)
        await asyncio.wait([finding], timeout=_PATIENCE_SECONDS)  # it goes on, for those to come
        found = None
        is_found = finding.done() and not finding.cancelled() and finding.exception() is None
        if is_found and self._has_room():
            found = finding.result()
        if found is None:
            self._cached.pass_by(key[0])
        if self._transport is not None:
            self._transport.write(self._packed(question, found))

    def _has_room(self) -> bool:
        """Return whether he takes his answers: he may ask for a thousand great ones at once."""
        transport = self._transport
        return transport is not None and transport.get_write_buffer_size() < _A_TURN_BYTES

    def _packed(self, question: wire.Question, found: Found | None) -> bytes:
        """Return an answer; absence is none, nor is too much: who asks looks for himself."""
        if found is None or found.entry is None:
            return wire.ask_postgresql(question.number)
        packed = self._packed_entry(question, found, found.entry)
        if len(packed) > wire.MOST_ANSWER_BYTES:
            self._cached.pass_by(question.namespace)
            return wire.ask_postgresql(question.number)
        return packed

    def _packed_entry(self, question: wire.Question, found: Found, entry: Entry) -> bytes:
        unseen = self._cached.told(entry.key)
        if found.lag is not None and not unseen and not question.max_events:
            return wire.kept(question.number, entry, found.lag)
        events = events_in(entry, _range_of(question))
        server = self._cached.server
        answer = wire.Answer(entry.row, entry.timers, found.lag, events, unseen, server)
        return wire.more(question.number, answer)


def _range_of(question: wire.Question) -> Range:
    if question.max_events == 0:
        return NO_EVENTS
    return Range(question.max_events, question.after, question.direction)


def _take_failure(finding: asyncio.Future[Found | None]) -> None:
    """Log what is no honest failure to read PostgreSQL: that one, who asks will meet himself."""
    error = None if finding.cancelled() else finding.exception()
    if error is not None and not isinstance(error, PgprogError | RolledBack):
        log.error("reader_failed", error=error)
