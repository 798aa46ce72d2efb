"""Text that needs no library: plain, and reStructuredText, which reads as it is."""

from __future__ import annotations

import re
from itertools import pairwise

from pgprog.demo.faults import Code, fault
from pgprog.demo.formats import is_text
from pgprog.demo.parsers.prose import Prose

_TEXT_BYTES = 4 << 20
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_HIGH = re.compile(rb"[\x80-\xff]")
# A Western text has fewer accents; one in another script would come out as gibberish.
_HIGH_SHARE = 0.25
_UNDERLINE = re.compile(r"([^\w\s])\1{2,}")


def read_text(document: bytes) -> Prose:
    """Return a plain text, which has no title.

    Raises:
        PermanentError: See `decoded`.
    """
    return Prose(title="", body=decoded(document))


def read_rst(document: bytes) -> Prose:
    """Return reStructuredText with its markup; the title is its first underlined line.

    Raises:
        PermanentError: See `decoded`.
    """
    body = decoded(document)
    lines = [line.strip() for line in body.splitlines()]
    titles = (
        line
        for line, under in pairwise(lines)
        if line and _UNDERLINE.fullmatch(under) and not _UNDERLINE.fullmatch(line)
    )
    return Prose(title=next(titles, ""), body=body)


def decoded(document: bytes, declared: str | None = None) -> str:
    """Return text in the encoding that it has: by its mark, as *declared*, UTF-8 or Windows-1252.

    Raises:
        PermanentError: It is no text in any of these, or over 4 MiB.
    """
    if len(document) > _TEXT_BYTES:
        raise fault(Code.OVERSIZED, f"text over the limit of {_TEXT_BYTES} bytes")
    for mark, encoding in _MARKS.items():
        if document.startswith(mark):
            return document.decode(encoding, "replace")
    if not is_text(document):
        raise fault(Code.DAMAGED, "not text in any known encoding")
    for encoding in (declared or "utf-8", "utf-8"):
        try:
            return document.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    if len(_HIGH.findall(document)) > len(document) * _HIGH_SHARE:
        raise fault(Code.DAMAGED, "not text in any known encoding")
    return document.decode("cp1252", "replace")
