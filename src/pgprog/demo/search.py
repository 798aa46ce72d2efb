"""Searches in the texts of the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import LiteralString

# What the demo looks for of itself: words, a phrase, one word without another, one of two.
SEARCHES = ("transaction lock", '"exactly once"', "license -warranty", "timer or clock")

# The headline reads the text again, so only the hits that are shown have one.
_SEARCH = """
with hits as (
  select t.document, t.format, t.title, t.body, ts_rank_cd(t.tsv, q.query) as rank,
    count(*) over () as total, q.query
  from demo.texts as t, websearch_to_tsquery('english', %(words)s) as q(query)
  where t.tsv @@ q.query
  order by rank desc, t.document
  limit %(most)s
)
select h.document, h.format, h.title, h.total,
  ts_headline('english', h.body, h.query,
    'StartSel=[, StopSel=], MinWords=6, MaxWords=14, MaxFragments=1')
from hits as h
order by h.rank desc, h.document
"""


class Rows(Protocol):
    """What a query has found."""

    def fetchall(self) -> Sequence[tuple[object, ...]]:
        """Return all rows."""
        ...


class Connection(Protocol):
    """As much of a psycopg connection as the demo reads with."""

    def execute(self, query: LiteralString, params: Mapping[str, object] | None = None) -> Rows:
        """Run one statement."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A document that was found; *headline* shows the words in brackets where they stand."""

    document: str
    format_: str
    title: str
    headline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """The best hits of a search, and how many there are in all."""

    words: str
    total: int
    best: tuple[Hit, ...]


def search(connection: Connection, words: str, *, most: int = 3) -> Hits:
    """Return the best *most* hits for *words*, written as for a search engine on the web.

    SQL: websearch_to_tsquery.
    """
    rows = connection.execute(_SEARCH, {"words": words, "most": most}).fetchall()
    return Hits(
        words=words,
        total=int(str(rows[0][3])) if rows else 0,
        best=tuple(
            Hit(document=str(d), format_=str(f), title=str(t), headline=" ".join(str(h).split()))
            for d, f, t, _, h in rows
        ),
    )


def describe(found: Iterable[Hits]) -> str:
    """Return searches as text for a person."""
    lines = []
    for hits in found:
        lines.append(f"{hits.words}  ({hits.total} hits)")
        for hit in hits.best:
            lines += [f"  {hit.title}  [{hit.format_}] {hit.document}", f"    {hit.headline}"]
    return "\n".join(lines)
