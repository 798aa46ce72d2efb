"""Ask every question in interleaved rounds; print a table, keep the samples.

python -m bench [--quick] [--rounds N] [--only WORD ...] [--peers]
"""

from __future__ import annotations

import argparse

from bench import (
    cache_memory,
    cached_gets,
    calls,
    ceiling,
    cross_calls,
    drain,
    enqueue,
    hot_process,
    long_history,
    neighbours,
    pgbench,
    ping_pong,
    pinned,
    plain,
    processes,
    recovery,
    shared_gets,
    steady,
    stream,
    timers,
    wakeups,
)
from bench.asking import ask_all, chosen, keep, machine_of
from bench.peers import questions as shared
from bench.peers.running import versions
from bench.peers.shared import table as beside
from bench.question import FULL, QUICK, Question
from bench.server import durable_server
from pgprog import logs

QUESTIONS: tuple[Question, ...] = (
    *pgbench.QUESTIONS,
    *plain.QUESTIONS,
    *ceiling.QUESTIONS,
    *drain.QUESTIONS,
    *calls.QUESTIONS,
    *cross_calls.QUESTIONS,
    *enqueue.QUESTIONS,
    *timers.QUESTIONS,
    *wakeups.QUESTIONS,
    *shared.OURS,
    *stream.QUESTIONS,
    *cached_gets.QUESTIONS,
    *cache_memory.QUESTIONS,
    *ping_pong.QUESTIONS,
    *shared_gets.QUESTIONS,
    *recovery.QUESTIONS,
    *neighbours.QUESTIONS,
    *hot_process.QUESTIONS,
    *long_history.QUESTIONS,
    *pinned.QUESTIONS,
    *steady.QUESTIONS,
    *processes.QUESTIONS,
)
# What the others are compared with.
_ALWAYS = (pgbench.YARDSTICK, pgbench.COMMIT)


def main() -> None:
    """Run, print and write."""
    given = _arguments()
    logs.configure(level="error")  # that workers are collected is what is measured
    sizes = QUICK if given.quick else FULL
    asked = chosen(_known(given), given.only, always=_ALWAYS)
    with durable_server() as arena:
        machine = machine_of(arena, sizes)
        if given.peers:
            machine["peers"] = versions()
        rounds = ask_all(
            arena, asked, sizes=sizes, rounds=given.rounds or (2 if given.quick else 5)
        )
    keep(rounds, machine, name="quick" if given.quick else "full")
    if given.peers:
        print(beside(rounds, shared.FIGURES))


def _known(given: argparse.Namespace) -> list[Question]:
    """Return the questions, those that peers are asked, too, side by side."""
    if not given.peers:
        return [*QUESTIONS]
    names = {question.name for question in shared.ALL}
    return [*(question for question in QUESTIONS if question.name not in names), *shared.ALL]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of short samples")
    parser.add_argument("--rounds", type=int, help="how many rounds, five or, if quick, two")
    parser.add_argument(
        "--only", nargs="+", default=[], help="only questions with one of these in their name"
    )
    parser.add_argument("--peers", action="store_true", help="ask the peers, too: make .venv-peers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
