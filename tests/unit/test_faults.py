"""What a failed round trip means, by SQLSTATE."""

from __future__ import annotations

import psycopg
import pytest

from pgprog.errors import LeaseLost, PgprogError, SchemaMismatch, StoreUnavailable
from pgprog.store.faults import (
    DataFault,
    LockTimeout,
    RolledBack,
    Unforeseen,
    Unreachable,
    is_overstayed,
    translated,
    translated_for_callers,
    translated_for_people,
    translated_in_loops,
)

MEANINGS: list[tuple[str, type[Exception]]] = [
    ("40001", RolledBack),
    ("40P01", RolledBack),
    ("55P03", LockTimeout),
    ("57014", RolledBack),
    ("53300", RolledBack),
    ("58030", RolledBack),
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


def test_a_server_that_takes_no_writes_is_as_good_as_none() -> None:
    error = psycopg.errors.lookup("25006")("cannot execute INSERT in a read-only transaction")

    with pytest.raises(Unreachable) as caught, translated():
        raise error

    assert "primary" in str(caught.value.hint)


@pytest.mark.parametrize("sqlstate", ["XX000", "XX001", "0A000", "26000", "55000", "P0004"])
def test_loops_outlive_what_nobody_expects(sqlstate: str) -> None:
    error = psycopg.errors.lookup(sqlstate)("it failed")

    with pytest.raises(Unforeseen, match=f"it failed .{sqlstate}"), translated_in_loops():
        raise error


def test_loops_do_not_outlive_the_lack_of_a_right() -> None:
    error = psycopg.errors.lookup("42501")("permission denied")

    with pytest.raises(psycopg.errors.InsufficientPrivilege), translated_in_loops():
        raise error


def test_callers_are_told_of_what_loops_outlive() -> None:
    error = psycopg.errors.lookup("XX001")("could not read block 5")

    with (
        pytest.raises(PgprogError, match=r"the database failed: .*XX001"),
        translated_for_callers(),
        translated_in_loops(),
    ):
        raise error


def test_people_are_told_of_a_failure_that_nobody_expects_by_its_sqlstate() -> None:
    error = psycopg.errors.lookup("XX001")("could not read block 5")

    with (
        pytest.raises(PgprogError, match=r"could not read block 5.*XX001"),
        translated_for_people(),
    ):
        raise error


@pytest.mark.parametrize("sqlstate", ["25P03", "25P04"])
def test_what_ended_a_transaction_for_its_length_is_found_in_what_was_raised_of_it(
    sqlstate: str,
) -> None:
    cut = psycopg.errors.lookup(sqlstate)("it took too long")
    wrapped = LookupError("an error of the application")
    wrapped.__cause__ = ExceptionGroup("several", [ValueError("another"), cut])
    own, other = ValueError("its own"), ValueError("another")
    own.__cause__, other.__cause__ = other, own

    assert is_overstayed(cut)
    assert is_overstayed(wrapped)
    assert not is_overstayed(own)
