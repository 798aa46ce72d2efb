"""What profiling makes of stacks and of statements; no sample is taken here."""

from __future__ import annotations

from bench import profiling

STACKS = [
    "main (a.py:1);claim (b.py:10);encode (c.py:3) 2",
    "main (a.py:1);claim (b.py:12) 1",
    "main (a.py:2);claim (b.py:12);claim (b.py:10);encode (c.py:4) 5",
]


def test_a_function_is_counted_by_itself_where_it_is_the_innermost_whatever_its_line() -> None:
    alone, _ = profiling.seen(STACKS)

    assert alone == {"encode (c.py)": 7, "claim (b.py)": 1}


def test_a_function_is_counted_once_a_stack_with_what_it_calls_though_it_calls_itself() -> None:
    _, within = profiling.seen(STACKS)

    assert within == {"main (a.py)": 8, "claim (b.py)": 8, "encode (c.py)": 7}


def test_shares_are_of_all_that_was_seen_the_greatest_first() -> None:
    alone, _ = profiling.seen(STACKS)

    assert profiling.shares(alone, total=alone.total()) == [
        " 87.5% encode (c.py)",
        " 12.5% claim (b.py)",
    ]


def test_nothing_was_seen_of_a_sample_that_was_too_short() -> None:
    alone, within = profiling.seen([])

    assert [*profiling.shares(alone, total=0), *profiling.shares(within, total=0)] == []


def test_a_statement_is_told_on_one_line_of_a_width() -> None:
    query = f"select\n  {'x' * 200}\n"

    line = profiling.line_of((12.345, 40, True, query))

    assert line == f"   12.35       40 top select {'x' * 113}"
