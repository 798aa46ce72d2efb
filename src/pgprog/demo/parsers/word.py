"""Text out of docx files, by python-docx."""

from __future__ import annotations

import io
import zipfile

from pgprog.demo.faults import Code, fault
from pgprog.demo.parsers.prose import Prose

# Of all parts of the archive together, pictures too, and of the text, which is XML and grows
# tenfold in memory.
_ARCHIVE_BYTES = 16 << 20
_XML_BYTES = 4 << 20
_TEXT_PART = "word/document.xml"
_OLE = b"\xd0\xcf\x11\xe0"  # the container that encrypted documents, and those of old, lie in


def read(document: bytes) -> Prose:
    """Return the paragraphs in their order, those in tables too.

    Raises:
        PermanentError: The file is encrypted, no docx, or too big once unpacked.
    """
    from docx import Document  # noqa: PLC0415 - 12 MB that only docx files should cost
    from docx.oxml.ns import qn  # noqa: PLC0415
    from docx.text.paragraph import Paragraph  # noqa: PLC0415

    _check(document)
    opened = Document(io.BytesIO(document))
    # Not by tables, rows and cells: a cell may say that it spans a million columns.
    paragraphs = opened.element.body.iter(qn("w:p"))
    body = "\n".join(Paragraph(paragraph, opened).text for paragraph in paragraphs)
    return Prose(title=opened.core_properties.title, body=body)


def _check(document: bytes) -> None:
    """Look at the archive before the library unpacks it."""
    if document.startswith(_OLE):
        raise fault(Code.ENCRYPTED, "the docx opens with a password only")
    try:
        with zipfile.ZipFile(io.BytesIO(document)) as archive:
            sizes = {part.filename: part.file_size for part in archive.infolist()}
    except zipfile.BadZipFile as e:
        raise fault(Code.DAMAGED, "a docx is a zip archive, and this is none") from e
    if _TEXT_PART not in sizes:
        raise fault(Code.DAMAGED, f"the docx lacks its {_TEXT_PART}")
    xml = sum(size for name, size in sizes.items() if name.endswith((".xml", ".rels")))
    if xml > _XML_BYTES or sum(sizes.values()) > _ARCHIVE_BYTES:
        raise fault(Code.OVERSIZED, f"the docx unpacks to {sum(sizes.values())} bytes")
