"""Readers: small anthologies of our notes, no two of which are the same."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One note: its theme, its heading and its text."""

    theme: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A document to be: *further* are headings of notes that are not in it."""

    title: str
    lead: str
    sections: tuple[Section, ...]
    further: tuple[str, ...]


def read_notes(directory: Path) -> list[Section]:
    """Return all notes: the files in the order of their names, the notes in that of their lines."""
    found = []
    for path in sorted(directory.glob("*.md")):
        theme, *notes = path.read_text(encoding="utf-8").split("\n## ")
        for note in notes:
            heading, _, text = note.partition("\n")
            found.append(
                Section(
                    theme=theme.strip().removeprefix("# "),
                    heading=heading,
                    text=" ".join(text.split()),
                )
            )
    return found


def readers(notes: Sequence[Section], *, kind: str, count: int) -> Iterator[Reader]:
    """Yield *count* different readers, the same for one *kind* on every machine."""
    chance = random.Random(kind)
    seen: set[tuple[Section, ...]] = set()
    while len(seen) < count:
        first, *rest = chance.sample(notes, chance.randint(3, 6))
        title = f"{first.heading}, with {_number(len(rest))} notes on {_themes(rest)}"
        if (first, *rest) in seen:
            continue
        seen.add((first, *rest))
        others = [note.heading for note in notes if note not in (first, *rest)]
        yield Reader(
            title=title,
            lead=f"Reader {len(seen)} of the {kind} shelf begins with {first.theme.lower()}.",
            sections=(first, *rest),
            further=tuple(chance.sample(others, 3)),
        )


def _themes(notes: Sequence[Section]) -> str:
    """Return the themes of *notes* in alphabetical order, each once."""
    themes = sorted({note.theme for note in notes})
    themes = [theme if theme.startswith("PostgreSQL") else theme.lower() for theme in themes]
    *head, last = themes
    return f"{', '.join(head)} and {last}" if head else last


def _number(count: int) -> str:
    return ("no", "one", "two", "three", "four", "five")[count]
