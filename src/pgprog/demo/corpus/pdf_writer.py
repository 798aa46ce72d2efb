"""The least that makes a PDF of lines of text: ISO 32000-1, sections 7.3 to 7.5 and 9.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LINES_A_PAGE = 50
_INFO, _CATALOGUE, _PAGES, _FONT, _FIRST = 1, 2, 3, 4, 5


def write(lines: Sequence[str], *, title: str) -> bytes:
    """Return a PDF on A4, in Helvetica; a line too long for the page runs off it."""
    pages = [lines[at : at + _LINES_A_PAGE] for at in range(0, len(lines), _LINES_A_PAGE)]
    kids = b" ".join(b"%d 0 R" % (_FIRST + 2 * number) for number in range(len(pages)))
    objects = [
        b"<< /Title %s >>" % _string(title),
        b"<< /Type /Catalog /Pages %d 0 R >>" % _PAGES,
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(pages), kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, page in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] /Contents %d 0 R"
            b" /Resources << /Font << /F %d 0 R >> >> >>" % (_PAGES, _FIRST + 2 * number + 1, _FONT)
        )
        drawn = b" ".join(b"%s Tj T*" % _string(line) for line in page)
        drawn = b"BT /F 11 Tf 14 TL 56 780 Td %s ET" % drawn
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
    return _file(objects)


def _file(objects: Sequence[bytes]) -> bytes:
    """Return the file of numbered *objects*, with the table that says where each begins."""
    written = bytearray(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    written += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    trailer = b"<< /Size %d /Root %d 0 R /Info %d 0 R >>" % (len(objects) + 1, _CATALOGUE, _INFO)
    start = written.index(b"xref\n0 ")
    return bytes(written) + b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (trailer, start)


def _string(text: str) -> bytes:
    """Return *text* as a literal string."""
    encoded = text.encode("cp1252", "replace")
    for special in (b"\\", b"(", b")"):
        encoded = encoded.replace(special, b"\\" + special)
    return b"(%s)" % encoded
