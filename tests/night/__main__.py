"""Run the night: python -m tests.night [--seed N]; as root, with Prometheus."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
from tests.chaos import checker, evidence
from tests.chaos.fleet import ROOT
from tests.chaos.run import workplace
from tests.integration.alerting import Prometheus, free_ports, missing
from tests.night import scenes
from tests.night.disk import Disk
from tests.night.load import Load
from tests.night.windows import Windows
from tests.night.workers import Workers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.evidence import Evidence

PAGE = ROOT / "docs/operations/night.md"
_OPEN = """
    select (select count(*) from pgprog_data.queue),
      (select count(*) from pgprog_data.timers where status <> 's')"""
_HEAD = """# A night

Written by `make night`: seven faults under a constant load, what an operator saw of each in
metrics, [alerts](alerts.md), logs, `pgprog top` and [`pgprog doctor`](../how-to/doctor.md), and
what mended it.  Times are minutes and seconds since the start.  Alerts wait for a second here where
they wait for minutes in production, and a lease is 2 s."""


def main() -> int:
    """Run all scenes, prove the invariants of the load, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.night", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    given = parser.parse_args()
    if os.geteuid() != 0 or missing():
        print(missing() or "mounting a disk of limited size needs root", file=sys.stderr)
        return 1
    print(f"seed {given.seed}", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no program behind
    with workplace() as place:
        lines = _night(place, seed=given.seed)
    PAGE.write_text("\n".join([_HEAD, *lines, ""]))
    return 0


def _night(place: Path, *, seed: int) -> list[str]:
    with ExitStack() as stack:
        disk = stack.enter_context(Disk(place / "disk"))
        with psycopg.connect(disk.dsn, autocommit=True) as connection:
            connection.execute(evidence.TABLES)
        load = stack.enter_context(Load(place, disk.dsn, seed=seed))
        workers = Workers(place, dsn=load.link.dsn, direct=disk.dsn)
        stack.enter_context(workers)
        [port] = free_ports(1)
        prometheus = Prometheus(place, port)
        stack.callback(prometheus.stop)
        # A supervisor gives a worker that starts one second to answer, before it answers itself.
        prometheus.start(workers.ports, every="2s")
        see = Windows(workers, prometheus)
        see.wait(lambda: workers.started() >= 2, "the workers to start")
        scenes.begin_orders(disk.dsn)
        load.begin()
        scenes.worker_killed(see, workers)
        scenes.postgres_restarted(see, disk)
        scenes.packets_dropped(see, load)
        scenes.disk_filled(see, disk)
        scenes.configuration_pushed(see, workers, disk.dsn)
        scenes.orders_broken(see, workers, disk.dsn)
        scenes.leak_recycled(see, workers, disk.dsn)
        load.stop()
        return [*see.lines, "", "## In the morning", "", _proved(disk, place / "logs", see)]


def _proved(disk: Disk, logs: Path, see: Windows) -> str:
    """Return what the checker counted, once nothing is open any more."""
    with psycopg.connect(disk.dsn, autocommit=True) as connection:
        see.wait(lambda: connection.execute(_OPEN.encode()).fetchone() == (0, 0), "the last task")
        found = evidence.load(connection, logs)
    breaches = checker.check(found)
    assert not breaches, "\n".join(map(str, breaches[:30]))
    return _counted(found)


def _counted(found: Evidence) -> str:
    acknowledged = sum(op.task is not None for op in found.ops.values())
    told = sum(op.told is not None for op in found.ops.values())
    return (
        f"The clients asked for {len(found.ops)} things; {acknowledged} were acknowledged, and\n"
        f"all of these ended.  {told} ends were waited for, and each was told as it was.\n"
        f"{len(found.runs)} runs of handlers are in the handlers' own log: none out of order,\n"
        "none committed twice.  The checker of `make chaos` found no breach of I1 to I8."
    )


if __name__ == "__main__":
    sys.exit(main())
