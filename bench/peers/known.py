"""Who is asked, and what the bench knows of each: its SQL lies in sql/.

A statement stands behind a line that begins with its name.  left counts the jobs that have not
ended, of %(count)s that there ever were; clone makes %(count)s more of the one that waits, where
the peer's own call for many is slow; age, in several statements, makes as many ended jobs leave the
rows, dead and alive, that they do leave.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from bench.peers.job import BY_HAND, NO_OP, OWN

_SQL = Path(__file__).parent / "sql"
_NAME = re.compile(r"^-- (left|clone|age):", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One of those that are asked the same.

    Its own call for many takes about a second or two for *many* jobs, and less than *lead_seconds*
    for 5 000; of those due at one moment it gets *timers_at_most*.
    """

    name: str
    kinds: tuple[str, ...] = (NO_OP, BY_HAND)
    many: int = 20_000
    lead_seconds: float = 4.0
    timers_at_most: int = 1_000_000
    is_ours: bool = False

    @property
    def left(self) -> str:
        """What counts the jobs that have not ended."""
        [statement] = _statements(self.name, "left")
        return statement

    @property
    def clone(self) -> str:
        """What makes more of the one that waits, empty where its own call is quick."""
        return "".join(_statements(self.name, "clone"))

    @property
    def age(self) -> list[str]:
        """What makes jobs come and go, empty where they have to run."""
        return _statements(self.name, "age")


@functools.cache
def _statements(peer: str, name: str) -> list[str]:
    parts = _NAME.split((_SQL / f"{peer}.sql").read_text())[1:]
    return [
        f"--{statement}"
        for found, statement in zip(parts[::2], parts[1::2], strict=True)
        if found == name
    ]


PGPROG = Peer(name="pgprog", kinds=(NO_OP, OWN, BY_HAND), is_ours=True)
OTHERS = (
    Peer(name="procrastinate"),
    Peer(name="pgqueuer"),
    Peer(name="dbos", kinds=(NO_OP, OWN, BY_HAND), many=1_000, lead_seconds=15.0),
    Peer(name="absurd", kinds=(NO_OP, OWN, BY_HAND), many=5_000, lead_seconds=20.0),
    # It never promotes 4 000 jobs of one moment.
    Peer(name="awa", timers_at_most=2_000),
    Peer(name="oban", many=5_000, lead_seconds=8.0),
    Peer(name="chancy", many=5_000, lead_seconds=8.0),
)
