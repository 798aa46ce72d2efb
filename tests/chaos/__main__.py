"""Run the chaos: python -m tests.chaos [--minutes M] [--seed N] [--rate R]."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys

import psycopg
from tests.chaos import checker, evidence, report
from tests.chaos.run import Plan, private_server, run, workplace


def main() -> int:
    """Run, check and report; 1 on a violation, or where too little happened to prove anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--rate", type=float, default=Plan.rate, help="operations/s of a client")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no program behind
    try:
        with workplace() as place, private_server(place) as server:
            print(f"at work in {place}", flush=True)
            plan = Plan(seconds=given.minutes * 60, seed=given.seed, rate=given.rate)
            outcome = asyncio.run(run(place, server.dsn, plan, restart=server.restart))
            with psycopg.connect(server.dsn) as connection:
                found = evidence.load(connection, place / "logs")
            breaches = checker.check(found)
            print("\n".join(report.lines(found, outcome, breaches, place / "logs")), flush=True)
            counted = report.counts(found, outcome, place / "logs")
            missed = [m for m in report.minimums(counted, outcome.seconds) if not m.is_reached]
            _check(not breaches and not missed)
    except _Failed:
        print(f"FAILED; again with --seed {given.seed}", file=sys.stderr)
        return 1
    print("all invariants held")
    return 0


def _check(good: bool) -> None:
    if not good:
        raise _Failed


class _Failed(Exception):  # noqa: N818 - what happened, for the place to be kept
    pass


if __name__ == "__main__":
    sys.exit(main())
