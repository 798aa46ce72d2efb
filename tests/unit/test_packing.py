"""Arrays packed column by column are what psycopg itself makes of the same values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.numeric import Int4, Int8

from pgprog.store.packing import bigints, booleans, instants, integers, jsonbs, texts

if TYPE_CHECKING:
    from collections.abc import Callable

AT = datetime(2030, 1, 1, 12, tzinfo=UTC)


def by_psycopg(values: list[Any]) -> bytes:
    made = Transformer().get_dumper(values, PyFormat.BINARY).dump(values)
    return bytes(made or b"")


@pytest.mark.parametrize(
    ("pack", "values", "as_psycopg"),
    [
        (texts, ["a", None, "é", "", "a"], str),
        (texts, ["a", "a", "a"], str),
        (integers, [1, -1, None], Int4),
        (bigints, [1 << 40, None, None], Int8),
        (booleans, [True, None, False], bool),
        (instants, [AT, None, AT - timedelta(days=20_000, microseconds=1)], lambda value: value),
    ],
)
def test_values_and_nulls_are_packed_as_by_psycopg(
    pack: Callable[[Any], bytes], values: list[Any], as_psycopg: Any
) -> None:
    plain = [None if value is None else as_psycopg(value) for value in values]

    assert bytes(pack(values)) == by_psycopg(plain)


def test_a_column_of_nulls_has_an_element_for_each() -> None:
    assert bytes(texts([None, None])).endswith(b"\xff" * 8)
    assert bytes(texts([None, None]))[:20] == bytes(texts(["a", None]))[:20]


def test_json_goes_behind_its_version() -> None:
    assert bytes(jsonbs([b"[1]", None, b"2"]))[20:] == (
        b"\x00\x00\x00\x04\x01[1]" + b"\xff" * 4 + b"\x00\x00\x00\x02\x012"
    )
