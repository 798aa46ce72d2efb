"""Questions that peers are asked, too, and their answers side by side."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bench.measure import spread
from bench.question import Question
from bench.report import pairs

if TYPE_CHECKING:
    from bench.peers.known import Peer
    from bench.question import Sample, Sizes
    from bench.report import Rounds
    from bench.server import Arena


class Ask(Protocol):
    """Takes a sample of one peer."""

    def __call__(self, arena: Arena, sizes: Sizes, *, peer: Peer) -> Sample:
        """Ask."""
        ...


_OURS = "pgprog"
_NAMED = re.compile(r"(.+) \[(.+)\]")
_HEAD = (
    "| question | who | figure | median (range) | pgprog is ahead (range) |\n"
    "| --- | --- | --- | --- | --- |"
)
_RATE = "a second"


@dataclass(frozen=True, slots=True)
class SharedQuestion:
    """A question to any peer, compared by its rate or by *figures* of which less is better.

    *kind* is the kind of jobs that a peer must have.
    """

    name: str
    what: str
    ask: Ask
    figures: tuple[str, ...] = ()
    kind: str = ""

    def to(self, peer: Peer) -> Question:
        """Return the question as it is put to one."""
        ask = functools.partial(self.ask, peer=peer)
        return Question(f"{self.name} [{peer.name}]", self.what, ask)


def table(rounds: Rounds, figures: dict[str, tuple[str, ...]]) -> str:
    """Return how each did, and how many times better pgprog did in the same rounds.

    *figures* are those that a question is compared by, where it is not its rate.
    """
    lines = [
        line
        for name in rounds
        if (match := _NAMED.fullmatch(name)) is not None
        for line in _lines(rounds, match[1], match[2], figures.get(match[1]) or (_RATE,))
    ]
    return "\n".join((_HEAD, *lines)) if lines else ""


def _lines(rounds: Rounds, question: str, who: str, figures: tuple[str, ...]) -> list[str]:
    samples = rounds[f"{question} [{who}]"]
    beside = pairs(samples, rounds.get(f"{question} [{_OURS}]", []))
    lines = []
    for figure in figures:
        found = [_value(sample, figure) for sample in samples]
        ahead = [ratio for theirs, ours in beside if (ratio := _ahead(ours, theirs, figure))]
        cells = (question, who, figure, _shown(found), "" if who == _OURS else _shown(ahead))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _value(sample: Sample, figure: str) -> float:
    return sample.rate if figure == _RATE else sample.figures.get(figure, float("nan"))


def _ahead(ours: Sample, theirs: Sample, figure: str) -> float:
    """Return how many times better we did, 0 where one did not say."""
    our, their = _value(ours, figure), _value(theirs, figure)
    if not our or not their:
        return 0.0
    return our / their if figure == _RATE else their / our


def _shown(numbers: list[float]) -> str:
    if not numbers:
        return "no answer"
    found = spread(numbers)
    return f"{_number(found.median)} ({_number(found.least)} to {_number(found.greatest)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
