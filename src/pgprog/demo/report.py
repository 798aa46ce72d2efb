"""What became of the documents: a table by format and size, and those that failed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pgprog.demo.search import Connection

# Lower bounds of the columns of sizes, in bytes.
_SIZES = (0, 4 << 10, 32 << 10, 256 << 10)
_SIZE_NAMES = ("< 4 KiB", "< 32 KiB", "< 256 KiB", "more")
# Of the failures with one code; the others are only counted.
_MOST_LISTED = 20

_INDEXED = "select t.format, t.size, t.words from demo.texts as t"
_FAILED = """
select p.process_id, p.detail
from pgprog.processes as p
where p.namespace = 'documents' and p.status = 'error'
order by p.detail, p.process_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One document in the table of texts."""

    format_: str
    size: int
    words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A document that cannot be read, and why."""

    document: str
    detail: str

    @property
    def code(self) -> str:
        """The first word of the detail, which the demo's own errors begin with."""
        return self.detail.partition(":")[0]


def fetch_indexed(connection: Connection) -> list[Indexed]:
    """Return all documents in the table of texts."""
    rows = connection.execute(_INDEXED).fetchall()
    return [
        Indexed(format_=str(format_), size=int(str(size)), words=int(str(words)))
        for format_, size, words in rows
    ]


def fetch_failures(connection: Connection) -> list[Failure]:
    """Return the documents whose processes are in error, those of one code together."""
    rows = connection.execute(_FAILED).fetchall()
    return [Failure(document=str(document), detail=str(detail)) for document, detail in rows]


def describe_indexed(documents: Iterable[Indexed]) -> str:
    """Return a table with a line a format: how many there are of each size, and their median."""
    by_format = defaultdict(list)
    for document in documents:
        by_format[document.format_].append(document)
    rows = [_row(name, by_format[name]) for name in sorted(by_format)]
    everything = [document for some in by_format.values() for document in some]
    head = ("format", "documents", "median size", *_SIZE_NAMES, "words")
    return _aligned([head, *rows, _row("all", everything)])


def describe_failures(failures: Sequence[Failure]) -> str:
    """Return the failures by their codes, each with its reason."""
    by_code = defaultdict(list)
    for failure in failures:
        by_code[failure.code].append(failure)
    lines = []
    for code, some in sorted(by_code.items()):
        lines.append(f"{code}  ({len(some)})")
        for failure in some[:_MOST_LISTED]:
            reason = failure.detail.partition(": ")[2] or failure.detail
            lines.append(f"  {failure.document}  {reason}")
        if len(some) > _MOST_LISTED:
            lines.append(f"  and {len(some) - _MOST_LISTED} more")
    return "\n".join(lines)


def _row(name: str, documents: Sequence[Indexed]) -> tuple[str, ...]:
    sizes = [document.size for document in documents]
    columns = [0] * len(_SIZES)
    for size in sizes:
        columns[sum(size >= least for least in _SIZES) - 1] += 1
    return (
        name,
        f"{len(documents):,}",
        f"{median(sizes) / 1024:.1f} KiB" if sizes else "",
        *(f"{count:,}" for count in columns),
        f"{sum(document.words for document in documents):,}",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return *rows* as lines: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
