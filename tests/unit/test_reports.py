"""Deaths of workers are reported until the database has heard them, whatever it answers first."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import psycopg

from pgprog.daemon.reports import Reports
from pgprog.store import deaths

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


class Connection:
    """One to a database that has no task of the dead, and fails twice at first."""

    faults: ClassVar = [psycopg.errors.InternalError_("cache lookup failed")] * 2

    def execute(self, query: str, values: object = ()) -> Connection:
        if self.faults:
            raise self.faults.pop()
        return self

    def fetchone(self) -> tuple[int]:
        return (0,)


def test_an_error_that_nobody_foresaw_ends_no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """XX000, as where a migration replaces the function that is called."""

    @contextmanager
    def connect(dsn: str, *, name: str) -> Iterator[Connection]:
        yield Connection()

    monkeypatch.setattr(deaths, "connect_blocking", connect)
    reports = Reports("dbname=none", namespaces=["orders"])
    reports.add(7)

    assert reports.wait(10)
