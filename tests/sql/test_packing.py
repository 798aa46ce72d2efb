"""Arrays packed by hand are what PostgreSQL takes and psycopg gives back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pgprog.store import packing

AT = datetime(2026, 11, 24, 5, 2, 39, 123456, tzinfo=UTC)
LONG_AGO = datetime(1815, 12, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("packed", "type_", "values"),
    [
        (packing.bigints([1, None, -(2**63)]), "bigint", [1, None, -(2**63)]),
        (packing.integers([2**31 - 1, None]), "integer", [2**31 - 1, None]),
        (packing.booleans([True, False, None]), "boolean", [True, False, None]),
        (packing.texts(["", None, "naïve ☃"]), "text", ["", None, "naïve ☃"]),
        (packing.instants([AT, None, LONG_AGO]), "timestamptz", [AT, None, LONG_AGO]),
        (packing.texts([]), "text", []),
    ],
)
def test_a_packed_array_arrives_as_its_values(
    session: Any, packed: packing.PackedArray, type_: str, values: list[object]
) -> None:
    connection = session()
    packing.register(connection)

    found = connection.execute(f"select %s, pg_typeof(%s) = '{type_}[]'::regtype", (packed, packed))

    assert found.fetchone() == (values, True)


def test_packed_json_arrives_as_jsonb_and_comes_back_as_its_text(session: Any) -> None:
    connection = session()
    packing.register(connection)
    with connection.cursor(binary=True) as cursor:
        cursor.execute("select unnest(%s)", (packing.jsonbs([b'{"a":1}', None, b"null"]),))

        assert cursor.fetchall() == [(b'{"a": 1}',), (None,), (b"null",)]
