"""Settings as the database holds them: plain JSON.

Keys that only a newer pgprog knows are obeyed by workers that know them, and kept by all who
change the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pgprog.config import NamespaceSettings
from pgprog.config.schema import hints_of, is_section, scalar_of
from pgprog.config.sources import overlay

if TYPE_CHECKING:
    from collections.abc import Iterator

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One setting before and after a change; None where it is not set."""

    path: str
    before: object
    after: object


def split_known(stored: Plain) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that this version knows, and the others, each in its sections."""
    return _split(NamespaceSettings, stored)


def changed(stored: Plain, patch: Plain, *, where: str) -> dict[str, Any]:
    """Return *stored* with the settings of *patch* in their places; a null is the default again.

    Raises:
        ConfigError: There are faults, unknown keys of *patch* among them; all are listed.
    """
    known, unknown = split_known(stored)
    settings = NamespaceSettings.from_json(_patched(known, patch), where=where)
    return overlay(settings.to_json(), unknown)


def replaced(stored: Plain, settings: NamespaceSettings) -> dict[str, Any]:
    """Return *settings* as they are stored in place of *stored*."""
    _, unknown = split_known(stored)
    return overlay(settings.to_json(), unknown)


def differences(before: Plain, after: Plain) -> list[Difference]:
    """Return what differs between two stored settings, by path."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    return [
        Difference(path=path, before=old.get(path), after=new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def paths_of(plain: Plain) -> list[str]:
    """Return the paths of all values."""
    return [path for path, _ in _leaves(plain)]


def _split(class_: type, plain: Plain) -> tuple[dict[str, Any], dict[str, Any]]:
    hints = hints_of(class_)
    known, unknown = {}, {}
    for key, value in plain.items():
        inner, rest = _split_value(hints[key], value) if key in hints else (None, value)
        if inner is not None:
            known[key] = inner
        if rest is not None:
            unknown[key] = rest
    return known, unknown


def _split_value(hint: object, value: object) -> tuple[Any, Any]:
    """Return what is known and what is unknown of a value; None where there is nothing of it."""
    if not isinstance(value, Mapping):
        return value, None
    if is_section(hint):
        known, rest = _split(hint, value)
        return known, rest or None
    if get_origin(hint) is not Mapping:
        return value, None
    key_hint, item_hint = get_args(hint)
    known, rest = {}, {}
    for key, item in value.items():
        inner, unknown = _split_value(item_hint, item) if _fits(key_hint, key) else (None, item)
        if inner is not None:
            known[key] = inner
        if unknown is not None:
            rest[key] = unknown
    return known, rest or None


def _fits(hint: object, key: object) -> bool:
    try:
        scalar_of(hint).parse(key)
    except (TypeError, ValueError):
        return False
    return True


def _patched(below: Plain, patch: Plain) -> dict[str, Any]:
    merged = dict(below)
    for key, value in patch.items():
        beneath = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and (beneath is None or isinstance(beneath, Mapping)):
            merged[key] = _patched(beneath or {}, value)
        else:
            merged[key] = value
    return merged


def _leaves(plain: Plain, under: str = "") -> Iterator[tuple[str, object]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", value
