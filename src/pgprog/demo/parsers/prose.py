"""What a parser finds in a document."""

from __future__ import annotations

from dataclasses import dataclass

# As much of a document as is kept.  PostgreSQL's tsvector ends at 1 MiB, and the worst text, of
# short words joined by hyphens, makes one of three times its size.
BODY_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """A document's text as it came; *title* is empty when it names itself nowhere."""

    title: str
    body: str
