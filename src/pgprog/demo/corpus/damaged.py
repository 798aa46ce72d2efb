"""Files that cannot be read, each for a reason of its own, such as every real heap of files has."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from typing import TYPE_CHECKING

from pgprog.demo.content import LIMIT_BYTES
from pgprog.demo.corpus import pdf_writer, render
from pgprog.demo.corpus.archives import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog.demo.corpus.readers import Reader

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of Word 97, and of encrypted docx


def files(sample: Reader) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file; *sample* is what they were before the damage."""
    yield from _pdfs(render.BY_SUFFIX["pdf"](sample))
    yield from _docxs(render.BY_SUFFIX["docx"](sample))
    yield from _texts(sample)
    yield from _archives(render.BY_SUFFIX["txt"](sample))
    yield from _strangers()


def _pdfs(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "cut-off.pdf", whole[: len(whole) // 2]
    yield "first-kilobyte.pdf", whole[:1024]
    yield "noise.pdf", b"%PDF-1.7\n" + _noise(3000) + b"\n%%EOF\n"
    yield "error-page.pdf", b"<html><title>404</title><body>No such report.</body></html>"
    yield "without-pages.pdf", pdf_writer.write([], title="Nothing")
    yield "scanned.pdf", pdf_writer.write([""], title="Picture of a page")
    yield "lost-table.pdf", whole.replace(b"/Kids", b"/Lost").replace(b"/Pages", b"/Sheet")
    key = b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"5a" * 32, b"a5" * 32)
    trailer = b"trailer\n<< /Encrypt %s /ID [<00> <00>]" % key
    yield "locked.pdf", whole.replace(b"trailer\n<<", trailer)


def _docxs(whole: bytes) -> Iterator[tuple[str, bytes]]:
    yield "no-zip.docx", b"This was a letter once.\n" * 20
    yield "cut-off.docx", whole[: len(whole) // 2]
    yield "locked.docx", _OLE + b"EncryptedPackage".ljust(2048, b"\0")
    yield "without-document.docx", pack({"[Content_Types].xml": b"<Types/>", "word/a.xml": b""})
    parts = unpack(whole)
    yield "torn-xml.docx", pack(parts | {"word/document.xml": parts["word/document.xml"][:900]})
    yield "huge-inside.docx", pack(parts | {"word/media/blank.bmp": bytes(17 << 20)})
    flipped = bytearray(whole)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        place = archive.getinfo("word/document.xml").header_offset
    flipped[place + 120] ^= 0xFF
    yield "flipped-bit.docx", bytes(flipped)


def _texts(sample: Reader) -> Iterator[tuple[str, bytes]]:
    page = render.BY_SUFFIX["html"](sample)
    yield "nul-bytes.html", page.decode().encode("utf-32-le")
    yield "overwritten.html", page[:200] + _noise(len(page) - 200)
    yield "empty-page.html", b"<!DOCTYPE html><html><head><title>Soon</title></head></html>\n"
    yield "only-script.html", b"<html><body><script>start()</script></body></html>\n"
    yield "noise.md", _noise(4000)
    yield "empty.txt", b""
    yield "blank.txt", b" \n" * 500
    yield "mainframe.rst", sample.title.encode("cp037") * 20
    line = f"{sample.lead}\n".encode()
    yield "over-the-limit.txt", line * (LIMIT_BYTES // len(line) + 1)


def _archives(text: bytes) -> Iterator[tuple[str, bytes]]:
    packed = gzip.compress(text, mtime=0)
    checksum = struct.pack("<I", struct.unpack("<I", packed[-8:-4])[0] ^ 1)
    yield "wrong-checksum.txt.gz", packed[:-8] + checksum + packed[-4:]
    yield "cut-off.txt.gz", packed[: len(packed) // 2]
    yield "no-gzip.txt.gz", text
    yield "bomb.txt.gz", gzip.compress(bytes(LIMIT_BYTES + 1), mtime=0)


def _strangers() -> Iterator[tuple[str, bytes]]:
    """Yield files that are whole, of types that the demo does not read."""
    yield "picture.png", b"\x89PNG\r\n\x1a\n" + _noise(600)
    yield "program", b"\x7fELF\x02\x01\x01" + bytes(9) + _noise(800)
    yield "sheet.xlsx", pack({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<w/>"})
    yield "letter.doc", _OLE + b"WordDocument".ljust(1024, b"\0")
    yield "letter.rtf", b"{\\rtf1\\ansi A letter in a format of its own.}\n"
    yield "drawing.ps", b"%!PS-Adobe-3.0\nnewpath 0 0 moveto 100 100 lineto stroke\n"
    yield "table.sqlite", b"SQLite format 3\0" + bytes(84) + _noise(400)
    yield "unknown.bin", _noise(5000)


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)
