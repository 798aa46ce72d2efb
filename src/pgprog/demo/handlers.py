"""The handlers of the demo: one process carries one version of one file into a table.

::

    init     look at size and type, before anything is read
    parse    read the file; its text goes into the state
    index    move the text out of the state into demo.texts, and finish

Each step sets the timer of the next, due at once, in the same commit as its state.  A worker that
is killed anywhere leaves either all of a step or nothing, so the insert of `index`, plain and with
no key to catch a second one, happens exactly once.  A file that cannot be read breaks its process
with a `PermanentError`, and there it stays for whoever asks why.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import msgspec

from pgprog.demo import content, formats
from pgprog.demo.faults import Code, fault
from pgprog.demo.formats import Format
from pgprog.demo.parsers import parse
from pgprog.errors import Reject
from pgprog.model import Finish, Intent, SetTimer, Step
from pgprog.namespace import Namespace


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one file; *body* is there from `parse` to `index` only, 256 KiB at most."""

    path: str
    digest: str
    changed_ns: int
    format: Format
    size: int
    title: str = ""
    body: str = ""
    words: int = 0


# People kill the demo to see what happens: a document is given up only after more crashes than they
# have patience for.  A busy machine is no reason to give one up either.
documents = Namespace("documents", state=Document, max_crashes=25, step_timeout="2m")
removals = Namespace("removals")

_PARSE = SetTimer(after=timedelta(0), name="parse")
_INDEX = SetTimer(after=timedelta(0), name="index")
# The file is not what it was: it has vanished, or another process has its new version.
_OUTDATED: Intent[Document] = Intent(events=["outdated"], then=Finish())

# All that concerns a path happens one after the other, until the commit.
_LOCK = "select pg_advisory_xact_lock(hashtextextended(%(path)s, 0))"
_REMOVE_OTHERS = "delete from demo.texts where path = %(path)s and document <> %(document)s"
_INSERT = """
insert into demo.texts (document, path, digest, format, size, title, words, body)
values (%(document)s, %(path)s, %(digest)s, %(format)s, %(size)s, %(title)s, %(words)s, %(body)s)
"""
_REMOVE = "delete from demo.texts where path = %(path)s"


@documents.init
def accept(step: Step[Document], path: str, digest: str, changed_ns: int) -> Intent[Document]:
    """Begin with a file that was found, unless its size or its type is none of ours.

    Raises:
        Reject: The file has vanished: there is nothing to have a process for.
        PermanentError: It is empty, oversized, unreadable or of an unsupported type.
    """
    file = Path(path)
    try:
        found = content.read(file, most=formats.HEAD_BYTES)
    except FileNotFoundError as e:
        raise Reject({"vanished": path}) from e
    content.check_size(found.size)
    format_ = formats.of_content(file.name, content.head(found.raw))
    if format_ is None:
        raise fault(Code.UNSUPPORTED, "of no type that the demo reads")
    document = Document(
        path=path, digest=digest, changed_ns=changed_ns, format=format_, size=found.size
    )
    return Intent(state=document, events=[{"accepted": format_}], timers=[_PARSE])


@documents.timeout("parse")
def read(step: Step[Document]) -> Intent[Document]:
    """Read the text of the file into the state.

    Raises:
        PermanentError: The document is damaged, encrypted, empty or too big once unpacked.
    """
    document = step.state
    raw = _read_unchanged(document)
    if raw is None:
        return _OUTDATED
    parsed = parse(content.unpack(raw, name=document.path), format_=document.format)
    return Intent(
        state=msgspec.structs.replace(
            document, title=parsed.title, body=parsed.body, words=parsed.words
        ),
        events=[{"parsed": parsed.title, "words": parsed.words}],
        timers=[_INDEX],
    )


@documents.timeout("index")
def index(step: Step[Document]) -> Intent[Document]:
    """Put the text where it is searched, in place of that of the file's older version."""
    document = step.state
    row = {"document": step.process_id, **msgspec.structs.asdict(document)}
    with step.transaction() as connection:
        connection.execute(_LOCK, row)
        if _read_unchanged(document) is None:
            return _OUTDATED
        connection.execute(_REMOVE_OTHERS, row)
        connection.execute(_INSERT, row)
    return Intent(
        state=msgspec.structs.replace(document, body=""),
        events=[{"indexed": document.words}],
        then=Finish(),
    )


@removals.init
def forget(step: Step, path: str) -> Intent:
    """Remove the text of a file that is gone; one that is back has a process of its own."""
    with step.transaction() as connection:
        connection.execute(_LOCK, {"path": path})
        if not Path(path).exists():
            connection.execute(_REMOVE, {"path": path})
    return Intent(events=[{"removed": path}], then=Finish())


def _read_unchanged(document: Document) -> bytes | None:
    """Return what its file holds, None if that is no longer the version of *document*."""
    try:
        found = content.read(Path(document.path))
    except FileNotFoundError:
        return None
    same = (found.changed_ns, found.digest) == (document.changed_ns, document.digest)
    return found.raw if same else None
