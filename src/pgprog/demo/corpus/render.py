"""A reader in each of the formats of the demo."""

from __future__ import annotations

import html
import io
import textwrap
from typing import TYPE_CHECKING

from pgprog.demo.corpus import pdf_writer
from pgprog.demo.corpus.archives import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pgprog.demo.corpus.readers import Reader


def _markdown(reader: Reader) -> bytes:
    parts = [f"# {reader.title}", f"*{reader.lead}*"]
    for section in reader.sections:
        parts += [f"## {section.heading}", textwrap.fill(section.text, 90)]
    parts += ["## Further reading", "\n".join(f"- {heading}" for heading in reader.further)]
    return ("\n\n".join(parts) + "\n").encode()


def _html(reader: Reader) -> bytes:
    title = html.escape(reader.title)
    sections = "\n".join(
        f"<h2>{html.escape(section.heading)}</h2>\n<p>{html.escape(section.text)}</p>"
        for section in reader.sections
    )
    items = "".join(f"<li>{html.escape(heading)}</li>" for heading in reader.further)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        "<style>body { max-width: 40em }</style></head>\n"
        f"<body>\n<h1>{title}</h1>\n<p><em>{html.escape(reader.lead)}</em></p>\n{sections}\n"
        f"<h2>Further reading</h2>\n<ul>{items}</ul>\n</body>\n</html>\n"
    ).encode()


def _plain(reader: Reader) -> bytes:
    parts = [reader.title.upper(), reader.lead]
    for section in reader.sections:
        parts += [section.heading, textwrap.indent(textwrap.fill(section.text, 76), "  ")]
    parts.append("Further reading: " + "; ".join(reader.further))
    return ("\n\n".join(parts) + "\n").encode()


def _rst(reader: Reader) -> bytes:
    parts = [_underlined(reader.title, "="), reader.lead]
    for section in reader.sections:
        parts += [_underlined(section.heading, "-"), textwrap.fill(section.text, 80)]
    parts.append(f".. seealso:: {'; '.join(reader.further)}")
    return ("\n\n".join(parts) + "\n").encode()


def _docx(reader: Reader) -> bytes:
    from docx import Document  # noqa: PLC0415 - not needed once the corpus is there

    document = Document()
    document.add_heading(reader.title, 0)
    document.add_paragraph(reader.lead)
    for section in reader.sections:
        document.add_heading(section.heading, 1)
        document.add_paragraph(section.text)
    table = document.add_table(rows=0, cols=2)
    for number, heading in enumerate(reader.further, 1):
        cells = table.add_row().cells
        cells[0].text, cells[1].text = f"Further {number}", heading
    written = io.BytesIO()
    document.save(written)
    return pack(unpack(written.getvalue()))  # python-docx writes the time of day


def _pdf(reader: Reader) -> bytes:
    lines = [reader.title, "", *textwrap.wrap(reader.lead, 90)]
    for section in reader.sections:
        lines += ["", section.heading, "", *textwrap.wrap(section.text, 90)]
    lines += ["", "Further reading", *reader.further]
    return pdf_writer.write(lines, title=reader.title)


def _underlined(heading: str, mark: str) -> str:
    return f"{heading}\n{mark * len(heading)}"


BY_SUFFIX: Mapping[str, Callable[[Reader], bytes]] = {
    "md": _markdown,
    "html": _html,
    "txt": _plain,
    "pdf": _pdf,
    "docx": _docx,
    "rst": _rst,
}
