"""`pgprog doctor`: what is not well, why, and the command that mends it."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pgprog.cli.arguments import read_duration
from pgprog.cli.asking import dsn_option, find_database, read, run_on
from pgprog.cli.output import json_option, print_json, shown
from pgprog.config import Config, Loaded, load_access, load_with_origins
from pgprog.daemon import apply as taking
from pgprog.daemon import load_namespaces
from pgprog.daemon.reader.place import is_heard
from pgprog.errors import ConfigError, PgprogError
from pgprog.store.doctor import (
    CLOCK,
    POOLER,
    Examination,
    Finding,
    Patience,
    Unseen,
    checks,
    examine,
)

if TYPE_CHECKING:
    from datetime import timedelta

    from pgprog.daemon.apply import Change
    from pgprog.store.operator_store import OperatorStore

_NOT_SEEN, _WARNINGS, _CRITICAL = 1, 5, 6
_OF_A_KIND = 5  # findings that people are shown: more hide what else there is
_CONFIGURATION = "configuration"
_READER = "reader"
_SETTINGS = "settings"


def _read_checks(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> frozenset[str] | None:
    if value is None:
        return None
    asked = frozenset(name.strip() for name in value.split(","))
    known = {*(name for name, _ in checks()), CLOCK, POOLER, _CONFIGURATION, _READER, _SETTINGS}
    if unknown := sorted(asked - known):
        msg = f"no check {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        raise click.BadParameter(msg, ctx, param)
    return asked


@click.command()
@click.option(
    "--long",
    callback=read_duration,
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="How long a transaction may be open, work due, a namespace paused.",
)
@click.option(
    "--patience",
    callback=read_duration,
    default="5s",
    show_default=True,
    metavar="DURATION",
    help="How long one check may take.",
)
@click.option(
    "--only", callback=_read_checks, metavar="CHECKS", help="These checks only, with commas."
)
@dsn_option
@json_option
@click.pass_context
def doctor(
    ctx: click.Context,
    *,
    long: timedelta,
    patience: timedelta,
    only: frozenset[str] | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Look over a database and what works on it: what is wrong, why, and what mends it.

    Reads only; each check is a short transaction of its own.  What mends a finding is a command
    for the shell, or SQL for psql.  What the role may not see is told, and what lets it:
    pgprog_operator with pg_read_all_stats sees everything.  Of many findings of a check the first
    five are printed, all with --json.

    Where a configuration is found, its faults are told, and it is compared with the settings that
    the database has.

    \b
    Exit codes:
      0  nothing was found
      1  it could not look, or nothing was found and not all was seen
      2  the command line was wrong
      5  something that somebody should look at
      6  something that stops work or endangers data
    """  # noqa: D301 - \b is the character by which click keeps lines as they are
    loaded, faulty = _configuration()
    wanted = Patience(long=long, check=patience, task_retention=loaded.config.task_retention)
    direct_dsn = find_database(dsn).direct_dsn if _hears(loaded.config) else None
    found = run_on(
        dsn, lambda place: examine(place, direct_dsn=direct_dsn, patience=wanted, only=only)
    )
    is_there = bool(faulty) or loaded.file is not None
    if is_there and (only is None or _CONFIGURATION in only):
        found = _with(found, faulty, [])
    socket = loaded.config.reader.socket
    if socket is not None and (only is None or _READER in only):
        found = _with(found, _unheard(socket), [])
    if loaded.config.namespaces and (only is None or _SETTINGS in only):
        found = _with(found, *_compared(loaded, dsn))
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
    if found.findings:
        is_critical = any(each.severity == "critical" for each in found.findings)
        ctx.exit(_CRITICAL if is_critical else _WARNINGS)
    if found.unseen:
        ctx.exit(_NOT_SEEN)


def _configuration() -> tuple[Loaded, list[Finding]]:
    """Return the configuration; of one with faults only where the database is, and a finding."""
    try:
        return load_with_origins(None, environ=os.environ), []
    except ConfigError as e:
        faults = str(e)
    heading, *each = faults.splitlines()
    finding = Finding(
        check=_CONFIGURATION,
        severity="critical",
        subject="the configuration",
        cause=f"no worker starts with it, and at SIGHUP it is refused: {faults}",
        mend="pgprog config check",
        evidence={"faults": [fault.strip() for fault in each] or [heading]},
    )
    try:
        return load_access(environ=os.environ), [finding]
    except ConfigError:  # then --dsn alone says where the database is
        return Loaded(config=Config(), file=None, plain={}, origins={}), [finding]


def _hears(config: Config) -> bool:
    """Return whether anything needs a direct connection: LISTEN or the replication stream."""
    is_cached = any(each.settings.cache.enabled for each in config.namespaces.values())
    return config.worker.wakeups != "poll" or is_cached


def _unheard(socket: str) -> list[Finding]:
    """Return that the shared reader of this machine is not there, or is not for us."""
    if not is_heard(socket):
        cause = "nobody listens there: programs that were told of it read from PostgreSQL"
        mend = "pgprog worker --only reader"
    elif not os.access(socket, os.W_OK):
        cause = "this account may not ask it: reader.mode and the socket's group say who may"
        mend = f"chgrp GROUP {shlex.quote(socket)}"
    else:
        return []
    subject = f"the shared reader at {socket}"
    return [Finding(check=_READER, severity="warning", subject=subject, cause=cause, mend=mend)]


def _compared(loaded: Loaded, dsn: str | None) -> tuple[list[Finding], list[Unseen]]:
    """Return where the configuration and the settings that workers obey differ."""
    try:
        namespaces = load_namespaces(loaded.config)
    except ConfigError as e:
        cause = f"the handlers of {loaded.file} cannot be imported: {e}"
        return [], [Unseen(check=_SETTINGS, cause=cause, mend="pgprog config check")]

    async def work(store: OperatorStore) -> list[Change]:
        return await taking.plan(store, namespaces)

    try:
        planned = read(dsn or loaded.config.dsn or None, work)
    except PgprogError as e:
        return [], [Unseen(check=_SETTINGS, cause=str(e), mend=e.hint)]
    command = shlex.join(
        ["pgprog", "namespace", "apply", *([str(loaded.file)] if loaded.file else [])]
    )
    return [
        Finding(
            check=_SETTINGS,
            severity="warning",
            subject=f"namespace {change.namespace}",
            cause=f"{each.path} is {shown(each.before)} in the database, which workers obey,"
            f" and {shown(each.after)} in the configuration",
            mend=command,
            evidence={"path": each.path, "database": each.before, "configuration": each.after},
        )
        for change in planned
        if change.version != taking.CREATES
        for each in change.differences
    ], []


def _with(found: Examination, findings: list[Finding], unseen: list[Unseen]) -> Examination:
    return Examination(
        findings=[*found.findings, *findings],
        unseen=[*found.unseen, *unseen],
        checks=found.checks + 1,
    )


def _print(found: Examination) -> None:
    printed = Counter[tuple[str, str]]()
    kinds = Counter((each.check, each.severity) for each in found.findings)
    for each in found.findings:
        kind = (each.check, each.severity)
        printed[kind] += 1
        if printed[kind] <= _OF_A_KIND:
            _print_finding(each)
        elif printed[kind] == kinds[kind]:
            more = kinds[kind] - _OF_A_KIND
            click.echo(f"… and {more} more of {each.check}; --json has them all\n")
    for unseen in found.unseen:
        click.echo(f"not seen: {unseen.check}: {shown(unseen.cause)}", err=True)
        if unseen.mend is not None:
            click.echo(f"  to see it: {shown(unseen.mend)}", err=True)
    critical = sum(each.severity == "critical" for each in found.findings)
    told = f"{critical} critical, {len(found.findings) - critical} warnings"
    left = "; not all was seen" if found.unseen else ""
    click.echo(f"{found.checks} checks: {told if found.findings else 'nothing found'}{left}")


def _print_finding(each: Finding) -> None:
    click.secho(each.severity, fg="red" if each.severity == "critical" else "yellow", nl=False)
    click.echo(f"  {shown(each.subject)}  ({each.check})")
    click.echo(f"  {shown(each.cause)}")
    click.echo(f"  mend: {shown(each.mend)}\n")
