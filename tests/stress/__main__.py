"""Run the stress: python -m tests.stress [--reads N] [--seed N]."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import signal
import sys

from tests.chaos.run import private_server, workplace
from tests.stress.run import Outcome, Plan, run


def main() -> int:
    """Run and report; 1 on a violation, or where there were fewer reads than asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--reads", type=int, default=1_000_000, help="from memory, at least")
    parser.add_argument("--seconds", type=float, default=3600.0, help="at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--pause", type=float, default=Plan.pause, help="seconds between faults")
    parser.add_argument("--hasty", action="store_true", help="end with the first violation")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    logging.disable(logging.WARNING)  # of what the faults do to clients and pools
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no program behind
    plan = Plan(
        reads=given.reads,
        seconds=given.seconds,
        seed=given.seed,
        pause=given.pause,
        is_hasty=given.hasty,
    )
    with workplace() as place, private_server(place) as server:
        outcome = asyncio.run(run(server, plan))
    print("\n".join(report(outcome)), flush=True)
    if outcome.oracle.violations or outcome.oracle.cached < plan.reads:
        print(f"FAILED; again with --seed {given.seed}", file=sys.stderr)
        return 1
    print("no read was stale, torn, or behind what its client had seen")
    return 0


def report(outcome: Outcome) -> list[str]:
    """Return what was done and seen."""
    oracle = outcome.oracle
    lines = [f"{oracle.cached} reads from memory in {outcome.seconds:.0f} s"]
    for counts in (oracle.counts, outcome.counts, outcome.faults):
        lines += [f"  {count:>9}  {name}" for name, count in sorted(counts.items())]
    lines += oracle.violations[:10]
    if outcome.violated_after is not None:
        lines.append(f"first violation after {outcome.violated_after:.1f} s")
    return lines


if __name__ == "__main__":
    sys.exit(main())
