"""The values of a configuration one by one, each with where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pgprog.config.schema import to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgprog.config import Loaded

DEFAULT: Final = "default"
IN_CODE: Final = "the code of the handlers, or default"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value; *origin* is a file, a profile, a variable, the command line, or `DEFAULT`."""

    path: str
    value: object
    origin: str


def values_of(loaded: Loaded) -> list[Value]:
    """Return all values in the order of the schema.

    Of a namespace only those that were given: the others are in code, or defaults.
    """
    return [
        Value(path=path, value=to_plain(value), origin=_origin(loaded, path))
        for path, value in _leaves(loaded)
    ]


def _leaves(loaded: Loaded) -> Iterator[tuple[str, object]]:
    config = loaded.config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            for inner in dataclasses.fields(value):
                yield f"{field.name}.{inner.name}", getattr(value, inner.name)
        elif field.name != "namespaces":
            yield field.name, value
    for name, section in config.namespaces.items():
        yield f"namespaces.{name}.handlers", section.handlers
        for path, value in _given(section.given):
            yield f"namespaces.{name}.{path}", value


def _given(plain: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, object]]:
    for key, value in plain.items():
        if isinstance(value, Mapping):
            yield from _given(value, f"{under}{key}.")
        else:
            yield f"{under}{key}", value


def _origin(loaded: Loaded, path: str) -> str:
    if path in loaded.origins:
        return loaded.origins[path]
    found: object = loaded.plain
    rest = path
    # A namespace's name may have dots of its own: keys are taken as long as they are.
    while rest and isinstance(found, Mapping):
        key = next((k for k in found if rest == k or rest.startswith(f"{k}.")), None)
        if key is None:
            return DEFAULT
        found, rest = found[key], rest[len(str(key)) + 1 :]
    return DEFAULT if rest else str(loaded.file)
