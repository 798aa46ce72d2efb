"""What a shared reader and its clients say to each other over a Unix socket.

Both begin with `GREETING`, whose last byte is the version of all that follows: who hears another
one hangs up.  Then the reader tells what it serves, a `Welcome`, and answers questions, in whatever
order it can.  Who asks to `Watch` a process is told once when it has changed, and asks again: so no
more is ever on its way than was asked for.  All of that comes in frames: four bytes of length, then
so many bytes.  Times are told as ages, in seconds: the two need not have the same clock.
"""

from __future__ import annotations

from datetime import datetime
from struct import Struct as Layout
from struct import error as LayoutError  # noqa: N812 - it is an exception, whatever its name
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeAlias

import msgspec

from pgprog.cache.entries import EventRow, ProcessRow
from pgprog.model import Direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.cache.entries import Entry

VERSION: Final = 3
MAGIC: Final = b"pgprog-reader"
GREETING: Final = MAGIC + bytes([VERSION])
MOST_QUESTION_BYTES: Final = 1 << 14
MOST_ANSWER_BYTES: Final = 1 << 24

# A process as it is kept; one with events, or with transactions that are not visible to all yet;
# "ask PostgreSQL"; what became of a `Watch`; and that what is watched has changed.
KEPT, MORE, ASK, WATCHED, TOLD = range(5)
_MOST_AT_ONCE: Final = 1 << 18
_LENGTH = Layout("!I")
_HEAD: Final = _LENGTH.size
# Length, number of the question, kind, lag: negative where PostgreSQL was read for this answer.
_ANSWER = Layout("!IIBd")
_ANSWER_HEAD = Layout("!IBd")
JUST_NOW: Final = -1.0


class Malformed(Exception):  # noqa: N818 - what came
    """What came is not of this protocol."""


_Number = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class Welcome(msgspec.Struct, frozen=True):
    """The namespaces that are served, and `store.probe.database_of` of what is read."""

    namespaces: list[str]
    database: str


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=0):
    """What is asked for; *max_lag* None is the namespace's.

    The answer shall be known as of a time that is not *known_ago*; the same for *changed_ago*, but
    that concerns every process, and none is to be read anew for it.
    """

    number: _Number
    namespace: str
    process_id: str
    at_least: int
    max_lag: float | None
    known_ago: float | None
    changed_ago: float | None
    max_events: int
    after: int | None
    direction: Direction


class Watch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """Tell of the next change of a process, by the number *watch*; one that is on is kept on."""

    number: _Number
    watch: _Number
    namespace: str
    process_id: str


class Unwatch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """Do not tell of it."""

    watch: _Number


Message: TypeAlias = Question | Watch | Unwatch


class Watched(NamedTuple):
    """It is watched; *is_settled* as `cache.fence.Cache.is_settled` says, on *server*."""

    is_settled: bool
    server: str


class Told(NamedTuple):
    """What is watched has changed, or nothing can be told any more."""


class Answer(NamedTuple):
    """A process; *lag* is None where PostgreSQL was read for it.

    *unseen* are transactions of it, with their epoch, that a snapshot of *server* may not see.
    """

    row: ProcessRow
    timers: Mapping[str, datetime]
    lag: float | None
    events: tuple[EventRow, ...] = ()
    unseen: tuple[int, ...] = ()
    server: str = ""


# The fields of ProcessRow and EventRow, with nothing left out.
_Row = tuple[
    str,
    str,
    int,
    str,
    str | None,
    datetime,
    str | None,
    int | None,
    bytes | None,
    int,
    bytes | None,
    datetime,
    int,
    int,
]
_Event = tuple[int, datetime, int, bytes, bytes | None, int]
_Kept = tuple[_Row, dict[str, datetime]]
_More = tuple[_Row, dict[str, datetime], list[_Event], list[int], str]

_encode = msgspec.msgpack.Encoder().encode
_messages: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_message = _messages.decode
_welcome = msgspec.msgpack.Decoder(Welcome).decode
_kept = msgspec.msgpack.Decoder(_Kept).decode
_more = msgspec.msgpack.Decoder(_More).decode
_watched = msgspec.msgpack.Decoder(tuple[bool, str]).decode


def buffer() -> memoryview:
    """Return a place to read into.

    An `asyncio.Protocol` is given each piece in a new object of 256 kB that is cut to the size of
    the piece: memory that the kernel may have to give and take each time, in 17 us.
    """
    return memoryview(bytearray(_MOST_AT_ONCE))


def cut(data: bytes, *, most: int) -> tuple[list[bytes], bytes]:
    """Return the whole frames that *data* begins with, and the rest.

    Raises:
        Malformed: A frame has more than *most* bytes.
    """
    frames, begin, size = [], _HEAD, len(data)
    while begin <= size:
        (length,) = _LENGTH.unpack_from(data, begin - _HEAD)
        if length > most:
            msg = f"a frame has {length} bytes, {most} are allowed"
            raise Malformed(msg)
        end = begin + length
        if end > size:
            break
        frames.append(data[begin:end])
        begin = end + _HEAD
    return frames, data[begin - _HEAD :]


def framed(message: Welcome | Message) -> bytes:
    """Return a message as it is sent."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


def welcome(frame: bytes) -> Welcome:
    """Return what a reader serves.

    Raises:
        Malformed: It is none.
    """
    try:
        return _welcome(frame)
    except msgspec.MsgspecError as e:
        raise Malformed(str(e)) from e


def message(frame: bytes) -> Message:
    """Return what is asked.

    Raises:
        Malformed: It is nothing that can be.
    """
    try:
        return _message(frame)
    except msgspec.MsgspecError as e:
        raise Malformed(str(e)) from e


def ask_postgresql(number: int) -> bytes:
    """Return the answer that this is not known here."""
    return _ANSWER.pack(_ANSWER_HEAD.size, number, ASK, JUST_NOW)


def kept(number: int, entry: Entry, lag: float) -> bytes:
    """Return an answer of what is kept.

    It is encoded for each: to keep it costs the memory of another entry, and saves 0.3 µs.
    """
    body = _encode((msgspec.structs.astuple(entry.row), entry.timers))
    return _ANSWER.pack(_ANSWER_HEAD.size + len(body), number, KEPT, lag) + body


def more(number: int, answer: Answer) -> bytes:
    """Return an answer with everything."""
    row, events = msgspec.structs.astuple(answer.row), map(_event, answer.events)
    body = _encode((row, answer.timers, [*events], answer.unseen, answer.server))
    lag = JUST_NOW if answer.lag is None else answer.lag
    return _ANSWER.pack(_ANSWER_HEAD.size + len(body), number, MORE, lag) + body


def watched(number: int, reply: Watched) -> bytes:
    """Return what becomes of a `Watch`."""
    body = _encode(reply)
    return _ANSWER.pack(_ANSWER_HEAD.size + len(body), number, WATCHED, JUST_NOW) + body


def told(watch: int) -> bytes:
    """Return that what is watched by this number has changed."""
    return _ANSWER.pack(_ANSWER_HEAD.size, watch, TOLD, JUST_NOW)


def answer(frame: bytes) -> tuple[int, Answer | Watched | Told | None]:
    """Return the number of a question and its answer, None to ask PostgreSQL.

    `Told` comes with the number of a `Watch`.

    Raises:
        Malformed: It is no answer.
    """
    try:
        number, kind, lag = _ANSWER_HEAD.unpack_from(frame)
        if kind == KEPT:
            row, timers = _kept(frame[_ANSWER_HEAD.size :])
            return number, Answer(ProcessRow(*row), timers, lag)
        if kind == MORE:
            row, timers, events, unseen, server = _more(frame[_ANSWER_HEAD.size :])
            rows = tuple(EventRow(*each) for each in events)
            known = None if lag < 0 else lag
            return number, Answer(ProcessRow(*row), timers, known, rows, tuple(unseen), server)
        if kind == WATCHED:
            return number, Watched(*_watched(frame[_ANSWER_HEAD.size :]))
    except (msgspec.MsgspecError, LayoutError) as e:
        raise Malformed(str(e)) from e
    if kind == TOLD:
        return number, Told()
    if kind != ASK:
        msg = f"an answer of kind {kind}"
        raise Malformed(msg)
    return number, None


def _event(event: EventRow) -> Sequence[object]:
    return msgspec.structs.astuple(event)
