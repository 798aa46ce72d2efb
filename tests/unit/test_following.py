"""What who follows all processes of a namespace makes of a stream that does not tell all."""

from __future__ import annotations

import pytest

from pgprog.client import following
from pgprog.replication.messages import Connected, Oversized, Progress

BEGINS = Connected("slot", "100:100:", "publications", "7", 1, 10)


@pytest.fixture
def ear() -> following._Ear:
    ear = following._Ear("orders")
    ear.hear(BEGINS)
    return ear


def test_what_was_before_a_stream_began_has_to_be_looked_for_once(ear: following._Ear) -> None:
    assert (ear.is_open, ear.is_whole, ear.told.is_set()) == (True, False, True)
    assert ear.needs_look()
    assert not ear.needs_look()
    assert ear.is_whole


def test_a_transaction_that_is_too_large_to_be_told_is_looked_for(ear: following._Ear) -> None:
    ear.needs_look()
    ear.hear(Progress(20))
    heard = ear.needs_look()
    ear.hear(Oversized(101, 30, 1 << 30))

    assert not heard
    assert ear.needs_look()
