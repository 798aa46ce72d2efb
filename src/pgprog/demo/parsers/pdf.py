"""Text out of PDF files, by pypdf."""

from __future__ import annotations

import io
import logging
import time
from typing import TYPE_CHECKING

from pgprog.demo.faults import Code, fault
from pgprog.demo.parsers.prose import BODY_BYTES, Prose

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

# A page takes about 15 ms; one whose drawing is of this size takes two seconds at the worst.
_PAGE_BYTES = 1 << 20
# Of any stream once unpacked: what a small file swells to.
_STREAM_BYTES = 16 << 20
_PATIENCE_SECONDS = 5.0
_TAIL_BYTES = 2048


def read(document: bytes) -> Prose:
    """Return the text of the pages, as many as are needed to fill a body.

    Raises:
        PermanentError: The file is encrypted, was cut off, or takes more than 5 s.
    """
    import pypdf  # noqa: PLC0415 - 8 MB that only PDFs should cost

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it mends is no news
    if b"%PDF-" not in document[:1024]:
        raise fault(Code.DAMAGED, "the file is no PDF, whatever its name says")
    if b"%%EOF" not in document[-_TAIL_BYTES:]:
        raise fault(Code.DAMAGED, "the PDF was cut off: it has no end")
    with pypdf.apply_configuration(zlib_maximum_output_length=_STREAM_BYTES):
        reader = pypdf.PdfReader(io.BytesIO(document))
        if reader.is_encrypted and not reader.decrypt(""):
            raise fault(Code.ENCRYPTED, "the PDF opens with a password only")
        title = reader.metadata.title if reader.metadata else None
        return Prose(title=title or "", body=_body(reader))


def _body(reader: PdfReader) -> str:
    deadline = time.thread_time() + _PATIENCE_SECONDS  # of its own: other threads take turns
    body = ""
    for number, page in enumerate(reader.pages):
        if len(body) >= BODY_BYTES:
            break
        if time.thread_time() > deadline:
            raise fault(Code.OVERSIZED, f"over {_PATIENCE_SECONDS:.0f} s for {number} pages")
        body += _page_text(page) + "\n"
    return body


def _page_text(page: PageObject) -> str:
    contents = page.get_contents()
    if contents is None or len(contents.get_data()) > _PAGE_BYTES:
        return ""
    return page.extract_text()
