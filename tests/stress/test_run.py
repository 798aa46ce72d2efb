"""A very short stress: each fault once or so."""

from __future__ import annotations

import asyncio

import pytest
from tests.chaos.run import private_server, workplace
from tests.stress.run import Plan, run


@pytest.mark.slow  # a server starts twice, its standby stalls
def test_no_read_from_memory_is_stale_torn_or_behind_what_its_client_has_seen() -> None:
    plan = Plan(reads=1, seconds=5, seed=4, pause=0.05, processes=20)
    with workplace() as place, private_server(place) as server:
        outcome = asyncio.run(run(server, plan))

    assert outcome.oracle.violations == []
    assert outcome.oracle.cached > 0
    assert outcome.oracle.counts["commits"] > 0
    assert outcome.faults
