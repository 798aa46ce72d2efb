"""Title and text of a document, whatever its format.

The libraries are imported when the first document of their format comes: a demo without PDFs
does not pay for pypdf.  What a parse may cost is bounded by sizes, because nothing can stop a
thread: seconds and 100 MB at the worst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog.demo.faults import Code, fault
from pgprog.demo.formats import Format
from pgprog.demo.parsers import hypertext, markdown, pdf, plain, word
from pgprog.demo.parsers.prose import BODY_BYTES, Prose
from pgprog.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_TITLE_LETTERS = 200
_UNFIT = re.compile("[\0\ud800-\udfff]")  # what PostgreSQL's text cannot hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What is kept of a document: *body* is at most 256 KiB of its text, *words* are its words."""

    title: str
    body: str
    words: int


def parse(document: bytes, *, format_: Format) -> Parsed:
    """Return what *document* says.

    Raises:
        PermanentError: It is damaged, encrypted, too big once unpacked, or has no text at all;
            *code* is the first of its words.
    """
    try:
        prose = _PARSERS[format_](document)
    except (PermanentError, MemoryError):
        raise
    except Exception as e:  # the libraries raise anything over strangers' bytes
        raise fault(Code.DAMAGED, f"no {format_}: {type(e).__name__}: {_line(str(e))}") from e
    body = _kept(prose.body)
    if not body:
        raise fault(Code.EMPTY, "there is no text in it")
    title = _line(prose.title) or _line(body.partition("\n")[0])
    return Parsed(title=title, body=body, words=len(body.split()))


def _kept(text: str) -> str:
    fit = _UNFIT.sub("", text).strip()
    return fit.encode()[:BODY_BYTES].decode(errors="ignore").strip()


def _line(text: str) -> str:
    """Return *text* on one line, cut where a title ends."""
    return " ".join(_UNFIT.sub("", text).split())[:_TITLE_LETTERS]


_PARSERS: Mapping[Format, Callable[[bytes], Prose]] = {
    Format.PDF: pdf.read,
    Format.HTML: hypertext.read,
    Format.MARKDOWN: markdown.read,
    Format.DOCX: word.read,
    Format.RST: plain.read_rst,
    Format.TEXT: plain.read_text,
}
