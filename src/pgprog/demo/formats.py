"""Which format a document has, told from its first bytes and its name."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePath

# What `of_content` wants to see of a file.
HEAD_BYTES = 4096


class Format(StrEnum):
    """What the demo can read."""

    PDF = "pdf"
    HTML = "html"
    MARKDOWN = "markdown"
    DOCX = "docx"
    RST = "rst"
    TEXT = "text"


_BY_SUFFIX = {
    ".pdf": Format.PDF,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xhtml": Format.HTML,
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".docx": Format.DOCX,
    ".rst": Format.RST,
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
    ".info": Format.TEXT,
}
# Documentation that has no telling suffix: README, changelog.Debian, bash.info-2, LICENSE.MIT.
_TEXT_NAME = re.compile(
    r"(readme|license|licence|copying|copyright|authors|contributors|credits|changelog|changes"
    r"|history|news|todo|faq|install|notice|thanks|metadata|hacking|maintainers)\b.*|.*\.info-\d+",
    re.IGNORECASE,
)
_HTML_START = re.compile(
    rb"\s*(<!--.*?-->\s*)*<(!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
# Formats that pass for text at a glance, and are none to read.
_MARKUP_OF_OTHERS = (b"{\\rtf", b"%!PS")
_CONTROLS = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]")


def of_name(name: str) -> Format | None:
    """Return what a file called *name* should hold, None if the name does not tell.

    A file `guide.md.gz` holds what `guide.md` would.
    """
    plain = unpacked_name(PurePath(name).name)
    by_suffix = _BY_SUFFIX.get(PurePath(plain).suffix.lower())
    if by_suffix is not None:
        return by_suffix
    return Format.TEXT if _TEXT_NAME.fullmatch(plain) else None


def of_content(name: str, head: bytes) -> Format | None:
    """Return the format of a file that begins with *head*, None for one that cannot be read.

    The bytes go before the name where they have a signature; a file that is not what its name
    says is left to the parser, which says what is wrong with it.
    """
    if b"%PDF-" in head[:1024]:
        return Format.PDF
    if head.startswith(b"PK\x03\x04") and b"word/" in head:
        return Format.DOCX
    if head.startswith(_MARKUP_OF_OTHERS):
        return None
    named = of_name(name)
    if named not in (None, Format.TEXT):
        return named
    if _HTML_START.match(head):
        return Format.HTML
    return Format.TEXT if named or is_text(head) else None


def is_text(head: bytes) -> bool:
    """Tell whether bytes look like text in some encoding: hardly any control characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return True
    return len(_CONTROLS.findall(head)) * 100 <= len(head)


def unpacked_name(name: str) -> str:
    """Return *name* without the suffix of gzip."""
    return name[:-3] if name.lower().endswith(".gz") else name
