"""What the parsers of the demo make of good, damaged and hostile documents."""

from __future__ import annotations

import gzip
import time
import zlib
from contextlib import suppress

import pytest

from pgprog.demo import content, corpus, formats
from pgprog.demo.corpus import damaged, pdf_writer, render
from pgprog.demo.corpus.archives import pack, unpack
from pgprog.demo.formats import Format
from pgprog.demo.parsers import parse
from pgprog.demo.parsers.prose import BODY_BYTES
from pgprog.errors import PermanentError

SAMPLE = corpus.sample()
FORMATS = {
    "pdf": Format.PDF,
    "html": Format.HTML,
    "md": Format.MARKDOWN,
    "docx": Format.DOCX,
    "rst": Format.RST,
    "txt": Format.TEXT,
}
DAMAGED = dict(damaged.files(SAMPLE))
CODES = {
    "blank.txt": "empty",
    "bomb.txt.gz": "oversized",
    "drawing.ps": "unsupported",
    "empty-page.html": "empty",
    "huge-inside.docx": "oversized",
    "letter.doc": "unsupported",
    "letter.rtf": "unsupported",
    "locked.docx": "encrypted",
    "locked.pdf": "encrypted",
    "only-script.html": "empty",
    "over-the-limit.txt": "oversized",
    "picture.png": "unsupported",
    "program": "unsupported",
    "scanned.pdf": "empty",
    "sheet.xlsx": "unsupported",
    "table.sqlite": "unsupported",
    "unknown.bin": "unsupported",
    "without-pages.pdf": "empty",
}
MIB = 1 << 20


def code_of(name: str, raw: bytes) -> str | None:
    """Return the code of the error that the handlers would make of a file, or None."""
    try:
        content.check_size(len(raw))
        format_ = formats.of_content(name, content.head(raw))
        if format_ is None:
            return "unsupported"
        parse(content.unpack(raw, name=name), format_=format_)
    except PermanentError as e:
        return e.code
    return None


# ---- Good documents ----


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_text_of_a_document_is_read_in_its_order(suffix: str) -> None:
    parsed = parse(render.BY_SUFFIX[suffix](SAMPLE), format_=FORMATS[suffix])

    body = " ".join(parsed.body.split())
    places = [body.index(section.heading) for section in SAMPLE.sections]
    assert places == sorted(places)
    assert SAMPLE.sections[-1].text in body
    assert SAMPLE.further[-1] in body
    assert parsed.words == len(parsed.body.split())


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_document_names_itself(suffix: str) -> None:
    parsed = parse(render.BY_SUFFIX[suffix](SAMPLE), format_=FORMATS[suffix])

    assert parsed.title.casefold() == SAMPLE.title.casefold()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_told_by_its_content(suffix: str) -> None:
    whole = render.BY_SUFFIX[suffix](SAMPLE)

    assert formats.of_content(f"reader.{suffix}", content.head(whole)) is FORMATS[suffix]
    assert formats.of_content(f"a.{suffix}.gz", content.head(gzip.compress(whole)))


def test_a_signature_goes_before_the_name() -> None:
    assert formats.of_content("letter.txt", b"%PDF-1.4\n") is Format.PDF
    assert formats.of_content("page", b"\n<!-- old --> <!DOCTYPE html><p>") is Format.HTML
    assert formats.of_content("README", b"Read me first.") is Format.TEXT


def test_what_is_hidden_on_a_page_is_not_its_text() -> None:
    page = b"<title>T</title><style>p {}</style><p>seen<script>x < y</script> too"
    filler = b"<p>filler</p>" * 12_000

    for whole in (page, page + filler):
        parsed = parse(whole, format_=Format.HTML)
        assert parsed.title == "T"
        assert parsed.body.split()[:2] == ["seen", "too"]


def test_a_page_too_big_for_a_tree_is_still_read() -> None:
    page = b"<h1>A &amp; B</h1><!-- no --><script>no</script><p>text</p>" * 4000

    parsed = parse(page, format_=Format.HTML)

    assert parsed.body.split()[:4] == ["A", "&", "B", "text"]
    assert "no" not in parsed.body


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("naïve «quoted»".encode(), "naïve «quoted»"),
        ("\ufeffnaïve".encode(), "naïve"),
        ("naïve".encode("utf-16"), "naïve"),
        ("a naïve coöperation".encode("cp1252"), "a naïve coöperation"),
        (b"no \0 NUL in a long enough text" + b" and more" * 20, "no  NUL in a long enough text"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_has(raw: bytes, text: str) -> None:
    assert parse(raw, format_=Format.TEXT).body.startswith(text)


def test_a_page_is_read_in_the_encoding_that_it_declares() -> None:
    page = '<meta charset="koi8-r"><p>Привет'.encode("koi8-r")

    assert parse(page, format_=Format.HTML).body == "Привет"


def test_no_more_than_256_kib_of_a_text_are_kept() -> None:
    parsed = parse("ö".encode() * BODY_BYTES, format_=Format.TEXT)

    assert len(parsed.body.encode()) == BODY_BYTES


# ---- Damaged documents ----


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_fails_with_its_code(name: str) -> None:
    assert code_of(name, DAMAGED[name]) == CODES.get(name, "damaged")


def test_there_are_at_least_twenty_damaged_files() -> None:
    assert len(DAMAGED) >= 20
    assert len(set(DAMAGED.values())) == len(DAMAGED)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_document_cut_anywhere_is_read_or_fails_for_good(suffix: str, kept: float) -> None:
    whole = render.BY_SUFFIX[suffix](SAMPLE)

    assert code_of(f"a.{suffix}", whole[: int(len(whole) * kept)]) in (None, "damaged")


# ---- Hostile documents ----


def pdf_with(drawing: bytes) -> bytes:
    """Return a PDF of one page with a packed *drawing* in place of its own."""
    packed = zlib.compress(drawing, 9)
    stream = b"<< /Filter /FlateDecode /Length %d >>\nstream\n%s\n" % (len(packed), packed)
    before, rest = pdf_writer.write(["x"], title="").split(b"<< /Length", 1)
    return before + stream + b"endstream" + rest.partition(b"endstream")[2]


def docx_with(xml: bytes) -> bytes:
    """Return a docx whose body is *xml*."""
    parts = unpack(render.BY_SUFFIX["docx"](SAMPLE))
    before, rest = parts["word/document.xml"].split(b"<w:body>", 1)
    body = before + b"<w:body>" + xml + b"</w:body>" + rest.partition(b"</w:body>")[2]
    return pack(parts | {"word/document.xml": body})


CELL = (
    b"<w:tc><w:tcPr><w:gridSpan w:val='9999999'/></w:tcPr><w:p><w:r><w:t>x</w:t></w:r></w:p></w:tc>"
)
HOSTILE = {
    "nested tags": (Format.HTML, b"<div>" * 26_000 + b"x"),
    "many nested tags": (Format.HTML, b"<div>" * (MIB // 5)),
    "many attributes": (Format.HTML, b"<p %s>x" % b" ".join(b"a%d=b" % i for i in range(15_000))),
    "spaces": (Format.HTML, b"<p>a" + b" " * MIB + b"b"),
    "no tags at all": (Format.HTML, b"<" * MIB),
    "brackets": (Format.MARKDOWN, b"![" * (60 << 10)),
    "wide table": (Format.MARKDOWN, b"|" * 1000 + b"a\n" + b"|-" * 1000 + b"\n" + b"x\n" * 60_000),
    "long underline": (Format.RST, b"=" * MIB + b"\na"),
    "drawing": (Format.PDF, pdf_with(b"BT /F 11 Tf " + b"1 0 0 1 5 5 Tm (a) Tj " * 40_000 + b"ET")),
    "huge drawing": (Format.PDF, pdf_with(b"(a) Tj " * (5 * MIB))),
    "wide cells": (Format.DOCX, docx_with(b"<w:tbl><w:tr>%s</w:tr></w:tbl>" % (CELL * 2000))),
    "many paragraphs": (Format.DOCX, docx_with(b"<w:p/>" * 600_000)),
    "deep tree": (Format.DOCX, docx_with(b"<w:p>" * 100_000 + b"</w:p>" * 100_000)),
}


@pytest.mark.slow  # each is as slow as a document can make it
@pytest.mark.parametrize("name", HOSTILE)
def test_no_document_takes_longer_than_some_seconds(name: str) -> None:
    format_, document = HOSTILE[name]
    began = time.thread_time()

    with suppress(PermanentError):
        parse(document, format_=format_)

    assert time.thread_time() - began < 10
