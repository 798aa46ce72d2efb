"""The namespaces that a worker serves, under the settings that the database has for them."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pgprog import logs
from pgprog.codec import encode
from pgprog.config import NamespaceSettings
from pgprog.errors import ConfigError, SchemaMismatch
from pgprog.store.migrate import latest_version
from pgprog.store.rows import Served

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import EngineStore

log = logs.get(__name__)

_ALL = (1 << 31) - 1  # what an integer of PostgreSQL holds
_KNOWN = {field.name for field in fields(NamespaceSettings)}


def check_names(namespaces: Sequence[Namespace[Any]]) -> None:
    """Check that no two namespaces have one name.

    Raises:
        ConfigError: Two have.
    """
    names = [namespace.name for namespace in namespaces]
    if len({*names}) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        msg = f"namespace {double} is given twice"
        raise ConfigError(msg)


async def check_schema(store: EngineStore) -> None:
    """Check that the database has the schema of this version.

    Raises:
        SchemaMismatch: It is older or newer.
    """
    found, needed = await store.schema_version(), latest_version()
    if found != needed:
        msg = f"the schema of the database is {found}, and this pgprog needs {needed}"
        raise SchemaMismatch(msg, hint="run `pgprog db migrate`")


def serves(namespaces: Sequence[Namespace[Any]]) -> dict[str, Served]:
    """Return what a worker says of its namespaces when it begins, by their names."""
    return {
        namespace.name: Served(
            encode(namespace.settings.to_json(), field="settings", limit=1 << 20),
            namespace.state_version,
        )
        for namespace in namespaces
    }


def preloads(namespaces: Iterable[Namespace[Any]]) -> dict[str, int]:
    """Return how many events are loaded with a step, of the namespaces where any are."""
    found = {each.name: each.settings.history for each in namespaces}
    return {name: _ALL if most == "full" else most for name, most in found.items() if most}


def isolated_of(namespaces: Sequence[Namespace[Any]], stored: Mapping[str, bytes]) -> list[str]:
    """Return those whose steps run in child processes, by *stored* settings or else their own."""
    settings = {
        each.name: json.loads(stored[each.name]) if each.name in stored else each.settings.to_json()
        for each in namespaces
    }
    return [name for name, plain in settings.items() if plain.get("isolation") == "process"]


def under_settings(
    namespaces: Sequence[Namespace[Any]], stored: Mapping[str, bytes]
) -> dict[str, Namespace[Any]]:
    """Return the namespaces by name, under their *stored* settings.

    A setting that only a newer pgprog knows is left out, and logged.

    Raises:
        ConfigError: The stored settings of a namespace have faults.
    """
    served = {}
    for namespace in namespaces:
        plain: dict[str, object] = json.loads(stored[namespace.name])
        if unknown := sorted(plain.keys() - _KNOWN):
            log.warning("unknown_settings", namespace=namespace.name, settings=unknown)
        known = {name: value for name, value in plain.items() if name in _KNOWN}
        settings = NamespaceSettings.from_json(
            known, where=f"the settings of {namespace.name} in the database"
        )
        if settings != namespace.settings:
            log.warning("settings_differ", namespace=namespace.name)
        served[namespace.name] = namespace.with_settings(settings)
    return served
