"""A very short chaos: one fault of each kind."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from tests.chaos import checker, evidence
from tests.chaos.faults import PACK
from tests.chaos.run import Plan, private_server, run, workplace


@pytest.mark.slow  # a server starts twice, leases end
def test_one_fault_of_each_kind_breaks_no_invariant() -> None:
    plan = Plan(seconds=7, seed=11, rate=25, pack=sorted({*PACK}), pause=0.25, packs=1)
    with workplace() as place, private_server(place) as server:
        outcome = asyncio.run(run(place, server.dsn, plan, restart=server.restart))
        with psycopg.connect(server.dsn) as connection:
            found = evidence.load(connection, place / "logs")

    assert checker.check(found) == []
    assert {kind.partition(":")[0] for kind in outcome.figures.faults} == {*PACK}
    assert outcome.figures.kills
    assert found.tasks
