"""Asks questions round by round, and keeps the answers with what they were taken on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
import timeit
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from bench import report
from bench.question import NoAnswerError
from bench.server import cores, flush_line, server_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bench.question import Question, Sizes
    from bench.server import Arena

_RESULTS = Path(__file__).parent / "results"


def chosen(
    questions: Sequence[Question], only: Sequence[str], *, always: Collection[str]
) -> list[Question]:
    """Return those that have a word of *only* in their names, and those *always* asked.

    Without a word they are all that are not long.
    """
    return [
        each
        for each in questions
        if each.name in always
        or (any(word in each.name for word in only) if only else not each.is_long)
    ]


def ask_all(arena: Arena, questions: list[Question], *, sizes: Sizes, rounds: int) -> report.Rounds:
    """Ask each question once a round, each round beginning with another.

    Whatever one fails with is printed: the answers of the others are an hour's work.
    """
    samples: report.Rounds = {question.name: [] for question in questions}
    for number in range(rounds):
        first = number * len(questions) // rounds
        for question in questions[first:] + questions[:first]:
            if question.is_long and samples[question.name]:
                continue
            began_at = time.perf_counter()
            try:
                sample = question.ask(arena, sizes)
            except NoAnswerError as e:
                print(f"round {number + 1}: {question.name}: no answer: {e}", flush=True)
                continue
            except Exception:  # noqa: BLE001 - of PostgreSQL, of pgbench, of what is asked
                print(f"round {number + 1}: {question.name}: no answer", flush=True)
                traceback.print_exc()
                continue
            samples[question.name].append(replace(sample, round=number))
            took = time.perf_counter() - began_at
            print(
                f"round {number + 1}: {question.name}: {sample.rate:.0f} {question.what}/s"
                f" (load {sample.load:.1f}, took {took:.0f} s)",
                flush=True,
            )
    return samples


def keep(rounds: report.Rounds, machine: dict[str, object], *, name: str) -> None:
    """Print the table, and write all samples to a file of results."""
    machine = machine | {
        "ended_at": datetime.now(UTC).isoformat(),
        "load_after": os.getloadavg(),
    }
    file = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.json"
    report.write(_RESULTS / file, rounds, machine=machine)
    print(f"\n{report.table(rounds)}\n\nbench/results/{file}\n")


def machine_of(arena: Arena, sizes: Sizes) -> dict[str, object]:
    """Return, and print, what the samples are taken on."""
    described: dict[str, object] = {
        "began_at": datetime.now(UTC).isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "python_call_ns": round(_call_ns()),
        "psycopg": f"{psycopg.__version__} ({psycopg.pq.__impl__})",
        "server": server_settings(arena.dsn),
        "system": platform.platform(),
        "cores": cores(),
        "load_before": os.getloadavg(),
        "pg_test_fsync": flush_line(),
        "sizes": {name: getattr(sizes, name) for name in sizes.__slots__},
    }
    for name, value in described.items():
        print(f"{name}: {value}")
    return described


def _call_ns() -> float:
    """Return what this Python on this machine takes to call a function that does nothing.

    It tells one host from another, and a Python that was built without optimisation.
    """
    times = 100_000
    return 1e9 * min(timeit.repeat("f()", "def f(): pass", number=times, repeat=5)) / times


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"
