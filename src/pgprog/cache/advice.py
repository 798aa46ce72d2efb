"""What a reader is told whom the cache cannot serve."""

from __future__ import annotations

from enum import Enum


class Advice(Enum):
    """What a reader should do whom the cache cannot serve."""

    FILL = "read it, and let the cache keep it"
    JOIN = "somebody is reading it"
    WAIT = "the stream has not told yet what is asked for"
    READ = "read it for yourself"
