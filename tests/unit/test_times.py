"""Instants and durations of other libraries, which reckon in their own way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pgprog import Namespace, Request
from pgprog.client.many import parts_of
from pgprog.client.requests import checked_run_at
from pgprog.errors import ConfigError
from pgprog.store.packing import instants
from pgprog.times import plain_duration, plain_instant

BERLIN = timezone(timedelta(hours=1))


class Span(timedelta):
    """As pendulum's: it divides by none but its own."""

    def __floordiv__(self, other: Any) -> Any:
        raise AttributeError("_to_microseconds")

    def __mod__(self, other: Any) -> Any:
        raise AttributeError("_to_microseconds")

    @property
    def days(self) -> int:
        return -7


class Moment(datetime):
    """As pendulum's: what lies between two is a span of its own."""

    def __sub__(self, other: Any) -> Any:
        return Span()


@pytest.fixture
def moment() -> Moment:
    return Moment(2027, 3, 4, 5, 6, 7, 89, tzinfo=BERLIN)


def test_an_instant_of_another_library_is_the_same_instant(moment: Moment) -> None:
    found = plain_instant(moment)

    assert type(found) is datetime
    assert found == datetime(2027, 3, 4, 4, 6, 7, 89, tzinfo=UTC)


def test_a_duration_of_another_library_is_as_long() -> None:
    found = plain_duration(Span(hours=-30, microseconds=1))

    assert type(found) is timedelta
    assert found == timedelta(hours=-30, microseconds=1)


def test_requests_may_be_due_at_an_instant_of_another_library(moment: Moment) -> None:
    requests = [Request("notify", "shop", "s", run_at=moment)] * 2
    [part] = parts_of(requests, namespace_of=lambda _: None)
    found = [checked_run_at(moment), *(each.run_at for each in part.requests)]

    assert instants(found) == instants([plain_instant(moment)] * 3)


def test_a_setting_may_be_a_duration_of_another_library() -> None:
    shop = Namespace[Any]("shop", step_timeout=Span(seconds=5))

    assert shop.settings.to_json()["step_timeout"] == "5s"
    with pytest.raises(ConfigError, match="8d"):
        Namespace[Any]("shop", step_timeout=Span(days=8))
