"""PostgreSQL that stands still for several leases: a stall is not the death of workers."""

from __future__ import annotations

import pytest

from bench.stall import stall


@pytest.mark.slow  # a server of its own stands still for six leases
async def test_a_stall_of_postgresql_kills_no_worker_and_repeats_no_step_that_returned() -> None:
    sample = await stall(1.0, stall_seconds=6.0)

    assert sample.figures == {
        "failed": 0,
        "lost": 0,
        "attempts": 1,
        "run again in vain": 0,
        "given up": 10,
    }
