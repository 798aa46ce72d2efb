"""Text out of Markdown, by markdown-it-py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgprog.demo.parsers.plain import decoded
from pgprog.demo.parsers.prose import Prose

if TYPE_CHECKING:
    from markdown_it.token import Token

# At the worst a page takes two seconds and 100 MB of this size, and four times that of twice it.
_MARKDOWN_BYTES = 128 << 10
_TAG = re.compile(r"<[^<>]*>")


def read(document: bytes) -> Prose:
    """Return the text without its markup; the title is the first heading.

    A longer document than 128 KiB is taken as the plain text that Markdown also is.

    Raises:
        PermanentError: See `decoded`.
    """
    from markdown_it import MarkdownIt  # noqa: PLC0415 - 4 MB that only Markdown should cost

    source = decoded(document)
    if len(document) > _MARKDOWN_BYTES:
        return Prose(title="", body=source)
    title = ""
    lines = []
    before = ""
    for token in MarkdownIt("commonmark").enable("table").parse(source):
        line = _text(token)
        if before == "heading_open":
            title = title or line
        if line:
            lines.append(line)
        before = token.type
    return Prose(title=title, body="\n".join(lines))


def _text(token: Token) -> str:
    match token.type:
        case "inline":
            return "".join(_text(child) for child in token.children or [])
        case "softbreak" | "hardbreak":
            return "\n"
        case "html_block" | "html_inline":
            return _TAG.sub("", token.content)
        case _:
            return token.content
