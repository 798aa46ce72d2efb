"""Ask every question in interleaved rounds; print a table, keep the samples.

python -m bench [--quick] [--rounds N] [--only WORD]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench import (
    calls,
    ceiling,
    cross_calls,
    drain,
    hot_process,
    neighbours,
    pgbench,
    plain,
    recovery,
    report,
    stream,
)
from bench.question import FULL, QUICK, Question, Sizes
from bench.server import (
    Arena,
    cores,
    durable_server,
    flush_line,
    server_settings,
)
from pgprog import logs

QUESTIONS: tuple[Question, ...] = (
    *pgbench.QUESTIONS,
    *plain.QUESTIONS,
    *ceiling.QUESTIONS,
    *drain.QUESTIONS,
    *calls.QUESTIONS,
    *cross_calls.QUESTIONS,
    *stream.QUESTIONS,
    *recovery.QUESTIONS,
    *neighbours.QUESTIONS,
    *hot_process.QUESTIONS,
)
_RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run, print and write."""
    given = _arguments()
    logs.configure(level="error")  # that workers are collected is what is measured
    sizes = QUICK if given.quick else FULL
    asked = [q for q in QUESTIONS if q.name == pgbench.YARDSTICK or _is_asked(q, given.only)]
    with durable_server() as arena:
        machine = _machine(arena, sizes)
        rounds = ask_all(
            arena, asked, sizes=sizes, rounds=given.rounds or (3 if given.quick else 5)
        )
    machine["ended_at"] = datetime.now(UTC).isoformat()
    machine["load_after"] = os.getloadavg()
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{'quick' if given.quick else 'full'}.json"
    report.write(_RESULTS / name, rounds, machine=machine)
    print(f"\n{report.table(rounds)}\n\nbench/results/{name}")


def ask_all(arena: Arena, questions: list[Question], *, sizes: Sizes, rounds: int) -> report.Rounds:
    """Ask each question once a round, each round beginning with another."""
    samples: report.Rounds = {question.name: [] for question in questions}
    for number in range(rounds):
        first = number * len(questions) // rounds
        for question in questions[first:] + questions[:first]:
            if question.is_long and samples[question.name]:
                continue
            began_at = time.perf_counter()
            sample = question.ask(arena, sizes)
            samples[question.name].append(sample)
            took = time.perf_counter() - began_at
            print(
                f"round {number + 1}: {question.name}: {sample.rate:.0f} {question.what}/s"
                f" (load {sample.load:.1f}, took {took:.0f} s)",
                flush=True,
            )
    return samples


def _is_asked(question: Question, only: str) -> bool:
    return only in question.name if only else not question.is_long


def _machine(arena: Arena, sizes: Sizes) -> dict[str, object]:
    described: dict[str, object] = {
        "began_at": datetime.now(UTC).isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
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


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds of short samples")
    parser.add_argument("--rounds", type=int, help="how many rounds, five or, if quick, three")
    parser.add_argument("--only", default="", help="only questions with this in their name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
