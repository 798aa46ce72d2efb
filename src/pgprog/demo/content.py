"""The bytes of a document: read within a limit, unpacked, and told apart by their hash."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog.demo import formats
from pgprog.demo.faults import Code, fault

if TYPE_CHECKING:
    from pathlib import Path

# Of a file, and of what comes out when it is unpacked.
LIMIT_BYTES = 8 << 20

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a file holds, or its first `LIMIT_BYTES` and one.

    *size* is that of the whole.  *changed_ns* is when the file was last changed or renamed, in
    nanoseconds of its file system, as the operating system counts them.
    """

    raw: bytes
    size: int
    changed_ns: int

    @property
    def digest(self) -> str:
        """The SHA-256 hash of the bytes, as hexadecimal digits."""
        return hashlib.sha256(self.raw).hexdigest()


def read(path: Path, *, most: int = LIMIT_BYTES + 1) -> Content:
    """Return the first *most* bytes of a file as they are, packed or not.

    Raises:
        FileNotFoundError: It vanished.
        PermanentError: It is no file, or may not be read.
    """
    try:
        # Without O_NONBLOCK the opening of a pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(most)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise fault(Code.UNREADABLE, e.strerror or str(e)) from e
    return Content(raw=raw, size=status.st_size, changed_ns=status.st_ctime_ns)


def check_size(size: int) -> None:
    """Check the size of a file in bytes.

    Raises:
        PermanentError: It is empty, or over `LIMIT_BYTES`.
    """
    if size == 0:
        raise fault(Code.DAMAGED, "the file is empty")
    if size > LIMIT_BYTES:
        raise fault(Code.OVERSIZED, f"{size} bytes, over the limit of {LIMIT_BYTES}")


def unpack(raw: bytes, *, name: str) -> bytes:
    """Return the document in *raw*, which may be packed by gzip; *name* is the file's.

    Raises:
        PermanentError: The archive is damaged, or what is in it is over `LIMIT_BYTES`.
    """
    if not raw.startswith(_GZIP) and formats.unpacked_name(name) == name:
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            document = packed.read(LIMIT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as e:
        raise fault(Code.DAMAGED, f"the gzip archive cannot be unpacked: {e}") from e
    if len(document) > LIMIT_BYTES:
        raise fault(Code.OVERSIZED, f"unpacks to over {LIMIT_BYTES} bytes")
    return document


def head(raw: bytes) -> bytes:
    """Return the first bytes of the document in *raw*; those of *raw* if it does not unpack."""
    if raw.startswith(_GZIP):
        try:
            return zlib.decompressobj(wbits=31).decompress(raw, formats.HEAD_BYTES)
        except zlib.error:
            pass
    return raw[: formats.HEAD_BYTES]
