"""Why a document cannot be read, in one word and a sentence."""

from __future__ import annotations

from enum import StrEnum

from pgprog.errors import PermanentError


class Code(StrEnum):
    """The words: `PermanentError.code`, and what its message begins with."""

    DAMAGED = "damaged"
    EMPTY = "empty"
    ENCRYPTED = "encrypted"
    OVERSIZED = "oversized"
    UNREADABLE = "unreadable"
    UNSUPPORTED = "unsupported"


def fault(code: Code, what: str) -> PermanentError:
    """Return the error of a document that no other attempt will make readable."""
    return PermanentError(f"{code}: {what}", code=code.value)
