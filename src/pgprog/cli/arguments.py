"""What is typed on a command line: names, JSON, durations and times, checked where they stand.

The functions are callbacks of click: what they refuse is a fault of the command line.
"""

from __future__ import annotations

import reprlib
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from pgprog.cli.asking import find_database
from pgprog.config.units import parse_duration
from pgprog.errors import InvalidArgument, PgprogError
from pgprog.store.names import namespaces_like
from pgprog.texts import MOST_ID_BYTES, check_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

_BIGINT = (1 << 63) - 1
_INTEGER = (1 << 31) - 1
_SENTENCE_BYTES = 1 << 10
_STDIN = "pgprog.stdin"
# Fractions are only looked over: their digits are sent as they were written.
_CHECK: Final = msgspec.json.Decoder(float_hook=str)


def read_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a namespace's name or a process's id, if the database can hold it."""
    return _checked(ctx, param, value, limit=MOST_ID_BYTES)


def read_sentence(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Return a sentence for other people of at most 1 KiB, if the database can hold it."""
    return _checked(ctx, param, value, limit=_SENTENCE_BYTES)


def read_json(ctx: click.Context, param: click.Parameter, value: str | None) -> msgspec.Raw | None:
    """Return JSON given inline, as `@file` or as `-`, with every digit of its numbers.

    JSON's null is as if nothing were given.
    """
    if value is None:
        return None
    place, data = _read(ctx, param, value)
    try:
        is_null = _CHECK.decode(data) is None
    except (msgspec.DecodeError, RecursionError) as e:
        msg = f"{place} is no JSON: {e}"
        raise click.BadParameter(msg, ctx, param) from e
    return None if is_null else msgspec.Raw(data)


def read_duration(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> timedelta | None:
    """Return a duration as the configuration has them: `500ms`, `30s`, `1h30m`."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as e:
        raise click.BadParameter(str(e), ctx, param) from e


def read_instant(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """Return a time in ISO 8601 with its zone."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError as e:
        msg = f"{value!r} is no time such as 2026-01-31T12:00:00Z"
        raise click.BadParameter(msg, ctx, param) from e
    if at.utcoffset() is None:
        msg = f"{value!r} has no zone: end it with Z or +01:00"
        raise click.BadParameter(msg, ctx, param)
    return at


def _checked(
    ctx: click.Context, param: click.Parameter, value: str | None, *, limit: int
) -> str | None:
    if value is not None:
        try:
            check_text(value, field=str(param.name), limit=limit)
        except InvalidArgument as e:
            raise click.BadParameter(str(e), ctx, param) from e
    return value


def _read(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, bytes]:
    """Return the JSON that *value* names, behind the words for its place."""
    if value == "-":
        if ctx.meta.setdefault(_STDIN, param) is not param:
            msg = "standard input can be read for one argument only"
            raise click.BadParameter(msg, ctx, param)
        return "standard input", sys.stdin.buffer.read()
    if not value.startswith("@"):
        return reprlib.repr(value), value.encode(errors="surrogateescape")
    path = Path(value[1:])
    try:
        return str(path), path.read_bytes()
    except (OSError, ValueError) as e:
        msg = f"{path} cannot be read: {getattr(e, 'strerror', e)}"
        raise click.BadParameter(msg, ctx, param) from e


def complete_namespace(
    ctx: click.Context,
    param: click.Parameter,  # noqa: ARG001 - click's signature
    incomplete: str,
) -> list[str]:
    """Return the namespaces of the command's database for a shell's completion."""
    try:
        return namespaces_like(find_database(ctx.params.get("dsn")).dsn, incomplete)
    except PgprogError:  # a configuration with faults; the command itself will tell
        return []


namespace_argument = click.argument(
    "namespace", callback=read_name, shell_complete=complete_namespace
)
process_id_argument = click.argument("process_id", callback=read_name)
task_id_argument = click.argument("task_id", type=click.IntRange(1, _BIGINT))
namespace_option = click.option(
    "--namespace",
    callback=read_name,
    shell_complete=complete_namespace,
    help="Only those of this one.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(1, _INTEGER),
    default=100,
    show_default=True,
    help="At most so many.",
)
timeout_option = click.option(
    "--timeout",
    callback=read_duration,
    metavar="DURATION",
    help="How long to wait once the task is queued, such as 500ms or 2m; default: 30s.",
)

priority_option = click.option(
    "--priority",
    type=click.IntRange(-1_000_000, 1_000_000),
    default=0,
    help="One step is worth 10 s of waiting.",
)
no_wait_option = click.option("--no-wait", is_flag=True, help="Print the task; do not wait.")
version_option = click.option(
    "--version", type=click.IntRange(0, _BIGINT), help="Only if it has not changed since."
)
key_option = click.option("--key", help="The idempotency key: a repeat gets the same answer.")


def events_options(
    count: str, *, default: int
) -> Callable[[click.decorators.FC], click.decorators.FC]:
    """Return the decorator for which events are wanted; *count* is the option for how many."""

    def decorate(command: click.decorators.FC) -> click.decorators.FC:
        most = click.IntRange(0, _INTEGER)
        event_id = click.IntRange(0, _BIGINT)
        for option in (
            click.option("--backward", is_flag=True, help="The newest first, those below --after."),
            click.option("--after", type=event_id, help="Begin behind this event."),
            click.option(
                count, "max_events", type=most, default=default, show_default=True,
                help="At most so many events.",
            ),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate
