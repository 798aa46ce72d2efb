"""`pgprog namespace set`, `apply`, `history` and `rollback`: settings that running workers obey."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from pgprog import config as configuration
from pgprog.cli.arguments import limit_option, namespace_argument, read_sentence
from pgprog.cli.asking import change, dsn_option, read, require_namespace
from pgprog.cli.output import json_option, print_json, print_table
from pgprog.config.stored import changed, differences
from pgprog.daemon import apply as taking
from pgprog.daemon import load_namespaces
from pgprog.errors import InvalidArgument, SettingsMoved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.config.stored import Difference
    from pgprog.store.operator_store import OperatorStore

_VERSION = click.IntRange(1, (1 << 63) - 1)

_reason_option = click.option("--reason", callback=read_sentence, help="Why, for the history.")
_dry_run_option = click.option("--dry-run", is_flag=True, help="Show the change; make none.")


def _read_settings(
    ctx: click.Context, param: click.Parameter, value: Sequence[str]
) -> dict[str, Any]:
    """Return KEY=VALUE as sections: `retry.max_attempts=5` is that key of the section retry.

    A key is changed once: by itself, or with the whole of its section.
    """
    patch: dict[str, Any] = {}
    words: dict[str, str] = {}
    for word in value:
        path, equals, text = word.partition("=")
        if not equals or not path:
            msg = f"{word!r} is not KEY=VALUE, such as step_timeout=30s or retry.max_attempts=5"
            raise click.BadParameter(msg, ctx, param)
        for other, earlier in words.items():
            if f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}."):
                msg = f"{earlier!r} and {word!r} change the same: which of them is meant?"
                raise click.BadParameter(msg, ctx, param)
        words[path] = word
        *sections, key = path.split(".")
        section = patch
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = _value(text)
    return patch


def _value(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # of a day that there is not, of a depth
        return text


@click.command(name="set")
@namespace_argument
@click.argument("patch", metavar="KEY=VALUE...", nargs=-1, required=True, callback=_read_settings)
@click.option("--version", type=_VERSION, help="Only if the settings are at this version.")
@_reason_option
@_dry_run_option
@dsn_option
@json_option
def set_(
    *,
    namespace: str,
    patch: dict[str, Any],
    version: int | None,
    reason: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Change settings of a namespace, all of them or none.

    Running workers obey within two seconds.  null is the default again; a key in a section is
    written with dots: retry.max_attempts=5.  Settings that are wrong are refused, all at once, and
    so is a change while somebody else makes one.
    """

    async def work(store: OperatorStore) -> tuple[taking.Change, int | None]:
        row = await require_namespace(store, namespace)
        before = json.loads(row["settings"])
        planned = taking.Change(
            namespace=namespace,
            version=row["settings_version"],
            before=before,
            after=changed(before, patch, where=f"the settings of {namespace}"),
        )
        if version is not None and version != planned.version:
            msg = f"the settings of {namespace} are at version {planned.version}, not {version}"
            raise SettingsMoved(msg, hint=f"`pgprog namespace history {namespace}` tells of it")
        if dry_run or not planned.differences:
            return planned, None
        [made] = await taking.make(store, [planned], reason=reason)
        return planned, made

    planned, made = change(dsn, work)
    if as_json:
        print_json(_told(planned, made))
    else:
        _print(planned, made)


@click.command()
@click.argument(
    "path", metavar="[FILE]", required=False,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)  # fmt: skip
@click.option("--profile", help="The profile to lay over the file; default: $PGPROG_PROFILE.")
@_reason_option
@_dry_run_option
@dsn_option
@json_option
def apply(
    *,
    path: Path | None,
    profile: str | None,
    reason: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Give all namespaces of a configuration file the settings that it says, or none.

    What the file does not say is as the code of the handlers has it, which is imported as a
    worker does: a namespace that is missing is made, and the others become what a new one would be.
    Without FILE it is that of $PGPROG_CONFIG, or ./pgprog.yaml.
    """
    loaded = configuration.load(path, environ=os.environ, profile=profile)
    namespaces = load_namespaces(loaded)

    async def work(store: OperatorStore) -> tuple[list[taking.Change], list[int | None]]:
        planned = await taking.plan(store, namespaces)
        if dry_run or not planned:
            return planned, [None] * len(planned)
        return planned, [*await taking.make(store, planned, reason=reason)]

    planned, made = change(dsn or loaded.dsn or None, work)
    if as_json:
        print_json([_told(each, version) for each, version in zip(planned, made, strict=True)])
        return
    for each, version in zip(planned, made, strict=True):
        _print(each, version)
    if not planned:
        click.echo("nothing differs")


@click.command()
@namespace_argument
@limit_option
@dsn_option
@json_option
def history(*, namespace: str, limit: int, dsn: str | None, as_json: bool) -> None:
    """List the versions of a namespace's settings, the newest first, with what each changed."""

    async def work(store: OperatorStore) -> list[dict[str, Any]]:
        await require_namespace(store, namespace)
        # One more, for what the last one of them changed.
        return await store.settings_history(namespace, limit=limit + 1)

    rows = read(dsn, work)
    plains = [json.loads(row["settings"]) for row in rows]
    earlier = [*plains[1:], *([] if len(rows) > limit else [{}])]
    told = [
        {**row, "differences": [_fields(each) for each in differences(before, after)]}
        for row, after, before in zip(rows, plains, earlier, strict=False)
    ]
    if as_json:
        print_json(told)
        return
    print_table(
        ("version", "changed_at", "changed_by", "reason", "changes"),
        [
            (
                row["settings_version"],
                row["changed_at"],
                row["changed_by"],
                row["reason"],
                None if row["settings_version"] == 1 else _on_a_line(row["differences"]),
            )
            for row in told
        ],
    )


@click.command()
@namespace_argument
@click.option("--to", "to_version", type=_VERSION, help="The version; default: the one before.")
@_reason_option
@_dry_run_option
@dsn_option
@json_option
def rollback(
    *,
    namespace: str,
    to_version: int | None,
    reason: str | None,
    dry_run: bool,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Give a namespace the settings of an earlier version, as a version of its own.

    Repeated without --to it takes back the rollback.
    """

    async def work(store: OperatorStore) -> tuple[taking.Change, int | None]:
        row = await require_namespace(store, namespace)
        planned = await _back(store, row, to_version=to_version)
        if dry_run or not planned.differences:
            return planned, None
        wanted = to_version or planned.version - 1
        made = await store.rollback_settings(
            namespace, wanted, version=planned.version, reason=reason
        )
        await taking.tell(store, [namespace])
        return planned, made

    planned, made = change(dsn, work)
    if as_json:
        print_json(_told(planned, made))
    else:
        _print(planned, made)


async def _back(
    store: OperatorStore, row: dict[str, Any], *, to_version: int | None
) -> taking.Change:
    """Return the change back to an earlier version, by default the one before.

    Raises:
        InvalidArgument: There is no such version.
        ConfigError: This version of pgprog finds faults in those settings.
    """
    namespace, version = row["namespace"], row["settings_version"]
    wanted = to_version or version - 1
    stored = await store.settings_at(namespace, wanted)
    if stored is None:
        msg = f"namespace {namespace} has no settings of version {wanted}, it is at {version}"
        raise InvalidArgument(msg, hint=f"`pgprog namespace history {namespace}` lists them")
    after = json.loads(stored)
    changed(after, {}, where=f"version {wanted} of the settings of {namespace}")
    return taking.Change(
        namespace=namespace, version=version, before=json.loads(row["settings"]), after=after
    )


def _told(planned: taking.Change, made: int | None) -> dict[str, Any]:
    """Return a change as JSON tells it; *made* is the new version, None where there is none."""
    return {
        "namespace": planned.namespace,
        "from_version": planned.version,
        "version": made,
        "differences": [_fields(each) for each in planned.differences],
    }


def _fields(each: Difference) -> dict[str, object]:
    return {"path": each.path, "before": each.before, "after": each.after}


def _print(planned: taking.Change, made: int | None) -> None:
    name, version = planned.namespace, planned.version
    if not planned.differences and version != taking.CREATES:
        click.echo(f"namespace {name} has these settings already, at version {version}")
        return
    what = "would change" if made is None else f"is at version {made}"
    click.echo(f"namespace {name} {what}:")
    for each in planned.differences:
        click.echo(f"  {each.path}: {_shown(each.before)} -> {_shown(each.after)}")


def _on_a_line(found: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{each['path']}: {_shown(each['before'])} -> {_shown(each['after'])}" for each in found
    )


def _shown(value: object) -> str:
    return "default" if value is None else value if isinstance(value, str) else json.dumps(value)
