"""What is checked of namespaces and of the database before a worker serves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.codec import encode
from pgprog.errors import ConfigError, SchemaMismatch
from pgprog.namespace.origins import importing
from pgprog.store.migrate import latest_version
from pgprog.store.rows import Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import EngineStore


def check_not_imported() -> None:
    """Refuse to serve in a child process that only imports a program for its handlers.

    Raises:
        ConfigError: This is one.
    """
    if importing.is_set():
        # Whoever reads it sees the message alone: it has come out of a child process.
        msg = (
            "it serves as soon as it is imported, and a child process imports it for its"
            ' handlers; put what starts it below `if __name__ == "__main__":`'
        )
        raise ConfigError(msg)


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
    """Check that the database has the schema of this version, or a later one that serves it, too.

    Raises:
        SchemaMismatch: It is older, or serves only newer workers.
    """
    oldest, found = await store.schema_versions()
    needed = latest_version()
    if found < needed:
        msg = f"the schema of the database is {found}, and this pgprog needs {needed}"
        raise SchemaMismatch(msg, hint="run `pgprog db migrate`")
    if needed < oldest:
        msg = f"the schema of the database is {found}, and this pgprog is of schema {needed}"
        hint = f"install a version of pgprog of schema {oldest} or later"
        raise SchemaMismatch(msg, hint=hint)


def serves(namespaces: Sequence[Namespace[Any]]) -> dict[str, Served]:
    """Return what a worker says of its namespaces when it begins, by their names."""
    return {
        namespace.name: Served(
            encode(namespace.settings.to_json(), field="settings", limit=1 << 20),
            namespace.state_version,
        )
        for namespace in namespaces
    }
