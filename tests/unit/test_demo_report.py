"""What the demo prints of its documents and searches."""

from __future__ import annotations

from pgprog.demo.report import Failure, Indexed, describe_failures, describe_indexed
from pgprog.demo.search import Hit, Hits, describe


def test_documents_are_counted_by_format_and_size() -> None:
    sizes = [100, 4096, 5000, 300_000]
    documents = [Indexed(format_="pdf", size=size, words=1000) for size in sizes]
    documents.append(Indexed(format_="html", size=2048, words=7))

    assert describe_indexed(documents).splitlines() == [
        "format  documents  median size  < 4 KiB  < 32 KiB  < 256 KiB  more  words",
        "html            1      2.0 KiB        1         0          0     0      7",
        "pdf             4      4.4 KiB        1         2          0     1  4,000",
        "all             5      4.0 KiB        2         2          0     1  4,007",
    ]


def test_without_documents_the_table_is_one_of_zeros() -> None:
    assert describe_indexed([]).splitlines()[1].split() == ["all", "0", "0", "0", "0", "0", "0"]


def test_failures_are_listed_by_code_with_their_reasons() -> None:
    failures = [
        Failure(document="a.pdf@1", detail="damaged: cut off"),
        Failure(document="b.bin@1", detail="unsupported: no type"),
        Failure(document="c.md@1", detail="damaged: noise: much"),
    ]

    assert describe_failures(failures).splitlines() == [
        "damaged  (2)",
        "  a.pdf@1  cut off",
        "  c.md@1  noise: much",
        "unsupported  (1)",
        "  b.bin@1  no type",
    ]


def test_of_many_failures_with_one_code_the_first_are_listed() -> None:
    failures = [Failure(document=str(number), detail="damaged: so") for number in range(23)]

    lines = describe_failures(failures).splitlines()

    assert lines[0] == "damaged  (23)"
    assert lines[-1] == "  and 3 more"
    assert len(lines) == 22


def test_hits_are_shown_with_their_headlines() -> None:
    hit = Hit(document="a.pdf@1", format_="pdf", title="Locks", headline="a [lock] is held")

    assert describe([Hits(words="lock", total=7, best=(hit,))]).splitlines() == [
        "lock  (7 hits)",
        "  Locks  [pdf] a.pdf@1",
        "    a [lock] is held",
    ]
