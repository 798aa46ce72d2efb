"""`pgprog process repair --all`: repairs of many processes in error."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypedDict

import click

from pgprog.cli.arguments import (
    complete_namespace,
    priority_option,
    read_instant,
    read_json,
    read_name,
    read_sentence,
)
from pgprog.cli.asking import change, dsn_option
from pgprog.cli.output import json_option, print_json, print_table
from pgprog.errors import Overloaded, StoreUnavailable
from pgprog.store import wakeups
from pgprog.store.campaign_store import Asked, Broken, CampaignStore

if TYPE_CHECKING:
    from datetime import datetime

    import msgspec
    from typing_extensions import Unpack

    from pgprog.store.campaign_store import Standing

_STEP_SECONDS = 0.1
_TOLD_EVERY_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 20.0  # after 40 s in all
_SHOWN = 20
_LISTED = 100
_campaign_id = click.IntRange(1, (1 << 63) - 1)


class CampaignFailed(click.ClickException):
    """Some processes were not repaired."""

    exit_code = 3


class _Given(TypedDict):
    """What is typed for a campaign."""

    args: msgspec.Raw | None
    namespace: str | None
    is_simple: bool
    name: str | None
    priority: int
    error_type: str | None
    detail_like: str | None
    since: datetime | None
    reason: str | None
    dry_run: bool
    yes: bool
    resume: int | None
    stop: int | None
    results: int | None
    is_list: bool
    max_open: int
    per_second: float | None
    dsn: str | None
    as_json: bool
    all: bool


def _read_rate(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Return a rate; what is no number is within every range."""
    if value is not None and math.isnan(value):
        msg = "it is no number"
        raise click.BadParameter(msg, ctx, param)
    return value


@click.command(name="repair --all")
@click.argument("args", callback=read_json, required=False)
@click.option("--all", is_flag=True, required=True, help="Repair all processes that are meant.")
@click.option(
    "--namespace",
    callback=read_name,
    shell_complete=complete_namespace,
    help="Of this namespace; required to begin.",
)
@click.option(
    "--error-type", callback=read_sentence, help="Broken by this error: the name of its class."
)
@click.option(
    "--detail-like",
    callback=read_sentence,
    metavar="PATTERN",
    help="Whose detail is LIKE this, as in SQL.",
)
@click.option(
    "--since", callback=read_instant, metavar="TIME", help="Broken at this time or later."
)
@click.option("--name", callback=read_name, help="The repair handler of this name.")
@click.option("--simple", "is_simple", is_flag=True, help="Simple repairs: try again what failed.")
@priority_option
@click.option(
    "--max-open",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="How many may be asked for and not ended at a time.",
)
@click.option(
    "--per-second",
    type=click.FloatRange(0.01, 1_000_000),
    callback=_read_rate,
    help="Ask for at most so many a second.",
)
@click.option("--reason", callback=read_sentence, help="Why, for those who look at it later.")
@click.option("--dry-run", is_flag=True, help="List what would be repaired; repair none.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--resume", type=_campaign_id, metavar="ID", help="Go on with a campaign.")
@click.option("--stop", type=_campaign_id, metavar="ID", help="Ask for no more of a campaign.")
@click.option(
    "--results", type=_campaign_id, metavar="ID", help="List what became of each process."
)
@click.option("--list", "is_list", is_flag=True, help="List campaigns, the newest first.")
@dsn_option
@json_option
def campaign(**given: Unpack[_Given]) -> None:
    """Repair all processes in error that the options mean, with ARGS for each.

    They are fixed when the campaign begins.  Each is asked for once, however often the campaign is
    cut off and resumed; what became of each is kept.  Exit code 3: some were not repaired.
    """  # fmt: skip
    if given["is_list"]:
        _print_campaigns(given)
    elif given["results"] is not None:
        _print_results(given, given["results"])
    elif given["stop"] is not None:
        stopped = given["stop"]
        left = change(given["dsn"], lambda store: store.stop_campaign(stopped))
        sentence = f"campaign {stopped} is stopped; {left} processes are left as they are"
        _print({"campaign_id": stopped, "left": left}, sentence, given)
    elif given["resume"] is not None:
        _drive(given, given["resume"])
    else:
        _begin(given)


def _begin(given: _Given) -> None:
    if given["namespace"] is None:
        msg = "--namespace is missing: whose processes are to be repaired?"
        raise click.UsageError(msg)
    broken = Broken(given["namespace"], given["error_type"], given["detail_like"], given["since"])
    if given["is_simple"] and (given["args"] is not None or given["name"] is not None):
        msg = "a simple repair has neither ARGS nor --name"
        raise click.UsageError(msg)
    asked = Asked(
        is_simple=given["is_simple"], name=given["name"], priority=given["priority"],
        args=None if given["args"] is None else bytes(given["args"]),
    )  # fmt: skip
    if given["dry_run"]:
        _print_broken(given, broken)
        return
    if not given["yes"]:
        counts = change(given["dsn"], lambda store: store.count_broken(broken))
        click.echo(f"{sum(row['processes'] for row in counts)} processes are meant.", err=True)
        click.confirm("Repair them?", abort=True, err=True)
    reason = given["reason"]
    begun = change(given["dsn"], lambda store: store.begin_campaign(broken, asked, reason=reason))
    if not given["as_json"]:
        again = f"pgprog process repair --all --resume {begun}"
        click.echo(f"campaign {begun} begins; if it is cut off: {again}")
    _drive(given, begun)


def _drive(given: _Given, campaign_id: int) -> None:
    """Go on until the campaign is over, and tell how it ended."""

    async def work(store: CampaignStore) -> Standing:
        return await _driven(
            store, campaign_id, max_open=given["max_open"], per_second=given["per_second"]
        )

    ended = change(given["dsn"], work)
    _print({"campaign_id": campaign_id, **ended._asdict()}, _sentence(campaign_id, ended), given)
    if ended.failed or ended.skipped:
        msg = f"not all were repaired: pgprog process repair --all --results {campaign_id}"
        raise CampaignFailed(msg)


async def _driven(
    store: CampaignStore, campaign_id: int, *, max_open: int, per_second: float | None
) -> Standing:
    """Ask for more, as fast as is allowed, until all have ended; tell on the way how it stands."""
    namespace = await store.namespace_of(campaign_id)
    stands = await _continued(store, campaign_id, 0, max_open)
    left_at_first = stands.to_do
    began_at = told_at = time.monotonic()
    while not stands.is_over:
        now = time.monotonic()
        allowed = max_open
        if per_second is not None:
            asked = left_at_first - stands.to_do
            allowed = max(0, min(allowed, 1 + int((now - began_at) * per_second) - asked))
        before = stands.to_do
        stands = await _continued(store, campaign_id, allowed, max_open)
        if stands.to_do < before:
            with suppress(StoreUnavailable):  # polling finds them, later
                await store.announce(wakeups.DUE, [namespace])
        if now - told_at > _TOLD_EVERY_SECONDS:
            told_at = now
            click.echo(_sentence(campaign_id, stands), err=True)
        if not stands.is_over:
            await asyncio.sleep(_STEP_SECONDS)
    return stands


async def _continued(
    store: CampaignStore, campaign_id: int, max_items: int, max_open: int
) -> Standing:
    """Continue a campaign, again and again while the database is away or another is at it."""
    pause = _STEP_SECONDS
    while True:
        try:
            return await store.continue_campaign(
                campaign_id, max_items=max_items, max_open=max_open
            )
        except (StoreUnavailable, Overloaded):  # the latter while no new connection can be made
            if pause > _LONGEST_PAUSE_SECONDS:
                raise
        await asyncio.sleep(pause)
        pause *= 2


def _sentence(campaign_id: int, stands: Standing) -> str:
    left = "" if stands.is_over else f", {stands.open} open, {stands.to_do} to do"
    return (
        f"campaign {campaign_id}: {stands.repaired} repaired, {stands.failed} failed,"
        f" {stands.skipped} skipped{left}"
    )


def _print_broken(given: _Given, broken: Broken) -> None:
    async def work(store: CampaignStore) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        counts = await store.count_broken(broken)
        return counts, await store.broken_processes(broken, limit=_SHOWN)

    counts, first = change(given["dsn"], work)
    if given["as_json"]:
        print_json({"counts": counts, "first": first})
        return
    total = sum(row["processes"] for row in counts)
    click.echo(f"{total} processes would be repaired")
    if total:
        print_table(("error", "processes", "first", "last"), [[*row.values()] for row in counts])
        click.echo(f"the longest broken, at most {_SHOWN}:")
        names = ("process", "broken_at", "type", "name", "error", "detail", "task")
        print_table(names, [[*row.values()] for row in first])


def _print_results(given: _Given, campaign_id: int) -> None:
    rows = change(given["dsn"], lambda store: store.campaign_results(campaign_id))
    if given["as_json"]:
        print_json(rows)
        return
    names = ("process", "outcome", "detail", "task", "asked_at", "broken_by")
    print_table(names, [[*row.values()] for row in rows])


def _print_campaigns(given: _Given) -> None:
    rows = change(given["dsn"], lambda store: store.campaigns(limit=_LISTED))
    if given["as_json"]:
        print_json(rows)
        return
    names = ("campaign_id", "namespace", "kind", "items", "began_at", "began_by", "ended_at")
    print_table((*names, "reason"), [[row[name] for name in (*names, "reason")] for row in rows])


def _print(fields: dict[str, Any], sentence: str, given: _Given) -> None:
    if given["as_json"]:
        print_json(fields)
    else:
        click.echo(sentence)
