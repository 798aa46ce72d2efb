"""The twin and the SQL functions do the same, whatever is done to them."""

from __future__ import annotations

import os
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.property.database import Database
from tests.property.machine import Machine
from tests.property.pair import BASE

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK_SEED = 3
QUICK_EXAMPLES = 24
ROUND_EXAMPLES = 50
STEPS = 50
# What a run that shows something must have seen.
NEEDED = [
    "rule", "claims", "chained", "late completions", "completed done", "answered from a key",
    "refused IdempotencyConflict", "steps of a worker: crash", "mended", "imported", "removed",
    "drained", "explained as runnable, and taken", "ended by a claim", "cancelled",
    "timers before a task in retry", "found before a place",
]  # fmt: skip


@pytest.fixture
def database(module_db: str) -> Iterator[Database]:
    made = Database(module_db, now=BASE)
    yield made
    made.close()


def run(database: Database, counts: Counter[str], *, number: int, examples: int) -> None:
    """Run examples from a seed; the first that fails is shrunk and printed."""
    machine: Any = seed(number)(type("Proof", (Machine,), {"database": database, "counts": counts}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.normal,
        ),
    )


def missing(counts: Counter[str]) -> list[str]:
    return [name for name in NEEDED if not any(k.startswith(name) and counts[k] for k in counts)]


@pytest.mark.slow  # a thousand operations on a real database
@pytest.mark.timeout(900)  # on a busy machine, and to shrink what fails
def test_the_twin_does_what_the_database_does(database: Database) -> None:
    counts: Counter[str] = Counter()

    run(database, counts, number=QUICK_SEED, examples=QUICK_EXAMPLES)

    assert missing(counts) == []


@pytest.mark.skipif("PGPROG_PROOF_MINUTES" not in os.environ, reason="make proof runs it")
@pytest.mark.timeout(0)
def test_the_proof(database: Database, capfd: Any) -> None:
    """Run for PGPROG_PROOF_MINUTES; PGPROG_PROOF_SEED repeats the round that was printed."""
    counts: Counter[str] = Counter()
    given = os.environ.get("PGPROG_PROOF_SEED")
    number = int(given) if given else secrets.randbelow(1_000_000_000)
    end = time.monotonic() + 60 * float(os.environ["PGPROG_PROOF_MINUTES"])
    rounds = 0
    with capfd.disabled():
        while not rounds or time.monotonic() < end:
            print(f"round {rounds + 1}: PGPROG_PROOF_SEED={number + rounds}", flush=True)  # noqa: T201
            run(database, counts, number=number + rounds, examples=ROUND_EXAMPLES)
            rounds += 1
        print("".join(f"{counts[name]:9}  {name}\n" for name in sorted(counts)))  # noqa: T201

    assert missing(counts) == []
