"""Text out of HTML, by selectolax."""

from __future__ import annotations

import re
from html import unescape

from pgprog.demo.parsers.plain import decoded
from pgprog.demo.parsers.prose import Prose

# A tree takes a second at the worst for this much, and the square of it for more: nested tags.
_TREE_BYTES = 128 << 10
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w-]{1,40})", re.IGNORECASE)
_TITLE = re.compile(r"<title>([^<]*)", re.IGNORECASE)
_PIECE = re.compile(r"<(/?[a-z]+|!)[^<>]*>|[^<>]+|.", re.IGNORECASE | re.DOTALL)
_HIDDEN = frozenset(("head", "title", "script", "style", "noscript", "template"))


def read(document: bytes) -> Prose:
    """Return what a reader of the page sees; the title is its own, else the first heading.

    Of a page of more than 128 KiB only the tags are cut out, without making a tree.

    Raises:
        PermanentError: See `decoded`.
    """
    declared = _CHARSET.search(document[:2048])
    page = decoded(document, declared[1].decode() if declared else None)
    prose = _from_tree(page) if len(document) <= _TREE_BYTES else _from_pieces(page)
    lines = (line.strip() for line in prose.body.splitlines())
    return Prose(title=prose.title, body="\n".join(line for line in lines if line))


def _from_tree(page: str) -> Prose:
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415 - only HTML should cost it

    tree = LexborHTMLParser(page)
    title = tree.css_first("title") or tree.css_first("h1")
    name = title.text(strip=True) if title else ""
    tree.strip_tags(sorted(_HIDDEN))
    return Prose(title=name, body=tree.body.text(separator=" ") if tree.body else "")


def _from_pieces(page: str) -> Prose:
    title = _TITLE.search(page)
    texts = []
    until = ""  # the tag that ends what is hidden
    for piece in _PIECE.finditer(page):
        tag = (piece[1] or "").lower()
        if until:
            until = "" if tag == until else until
        elif tag in _HIDDEN:
            until = f"/{tag}"
        elif not tag:
            texts.append(piece[0])
    return Prose(title=title[1] if title else "", body=unescape(" ".join(texts)))
