"""What a failed round trip means, by SQLSTATE."""

from __future__ import annotations

import psycopg
import pytest

from pgprog.errors import LeaseLost, SchemaMismatch, StoreUnavailable
from pgprog.store.faults import DataFault, LockTimeout, RolledBack, translated

MEANINGS: list[tuple[str, type[Exception]]] = [
    ("40001", RolledBack),
    ("40P01", RolledBack),
    ("55P03", LockTimeout),
    ("57014", RolledBack),
    ("53300", RolledBack),
    ("22P02", DataFault),
    ("23505", DataFault),
    ("P0001", DataFault),
    ("57P01", StoreUnavailable),
    ("08006", StoreUnavailable),
    ("42883", SchemaMismatch),
]


@pytest.mark.parametrize(("sqlstate", "meaning"), MEANINGS)
def test_a_failure_is_known_by_its_sqlstate(sqlstate: str, meaning: type[Exception]) -> None:
    error = psycopg.errors.lookup(sqlstate)("it failed")

    with pytest.raises(meaning), translated():
        raise error


def test_a_failure_of_our_own_is_known_by_its_class() -> None:
    class Lost(psycopg.Error):
        sqlstate = "UP002"

    with pytest.raises(LeaseLost), translated():
        raise Lost("the lease is lost")
