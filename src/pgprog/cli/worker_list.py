"""`pgprog worker list`: who is at work."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pgprog.cli.asking import dsn_option, watch
from pgprog.cli.output import age, json_option, print_json, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from pgprog.store.sight import SightStore, WorkerSight


@click.command(name="list")
@dsn_option
@json_option
def list_workers(*, dsn: str | None, as_json: bool) -> None:
    """List the workers of a database with their leases and what they run.

    A worker whose lease has ended is dead or cut off: a collector frees its tasks.
    """

    async def work(store: SightStore) -> tuple[list[WorkerSight], datetime]:
        return await store.workers(), await store.now()

    found, now = watch(dsn, work)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    names = ("worker", "name", "namespaces", "up", "lease_until", "ends", "running", "oldest_step")
    rows = [
        (
            each.worker_id,
            each.name,
            ", ".join(each.namespaces),
            age(each.started_at, now=now),
            each.lease_until,
            age(each.lease_until, now=now),
            each.running,
            None if each.oldest_started_at is None else age(each.oldest_started_at, now=now),
        )
        for each in found
    ]
    print_table(names, rows)
