"""Texts that PostgreSQL can hold: ids, names and keys, which travel outside JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from pgprog.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_BYTES = 256  # of the names of namespaces and handlers
# Of ids of processes and of idempotency keys; where a namespace is known, its limits count.
MOST_ID_BYTES = 1 << 10


def check_text(text: object, *, field: str, limit: int) -> None:
    """Check that *text* can be a text of PostgreSQL with at most *limit* bytes, and at least one.

    Raises:
        InvalidArgument: It cannot; the message begins with *field*.
    """
    # Nearly all are ASCII, which has a byte a character and no surrogates, and Python knows of it.
    if isinstance(text, str) and text.isascii() and 0 < len(text) <= limit and "\0" not in text:
        return
    if not isinstance(text, str):
        fault = f"must be text, not {type(text).__name__}"
    elif not text:
        fault = "is empty"
    elif (character := text_fault(text)) is not None:
        fault = f"holds {character}"
    elif (size := len(text.encode())) > limit:
        fault = f"has {size} bytes, and the limit is {limit}"
    else:
        return
    msg = f"{field} {fault}"
    raise InvalidArgument(msg)


def plain_text(text: str) -> str:
    """Return *text* without its class, whose equality may be anything."""
    return text if type(text) is str else str.__str__(text)


def plain_texts(texts: Sequence[str], *, field: str, limit: int) -> Sequence[str]:
    """Return *texts* as `plain_text` does, each checked as `check_text` does.

    That takes a tenth of the time where all are ASCII.

    Raises:
        InvalidArgument: For the first that `check_text` refuses.
    """
    if _are_str(texts):
        whole = "".join(texts)
        is_short = len(max(texts, key=len)) <= limit
        if is_short and "" not in texts and whole.isascii() and "\0" not in whole:
            return texts
    for text in texts:
        check_text(text, field=field, limit=limit)
    return [*map(plain_text, texts)]


def text_fault(text: str) -> str | None:
    """Return the name of the first character that PostgreSQL's text cannot hold, or None."""
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as e:
        return f"the lone surrogate U+{ord(text[e.start]):04X}"
    return None


def _are_str(values: Sequence[object]) -> TypeGuard[Sequence[str]]:
    return {*map(type, values)} == {str}
