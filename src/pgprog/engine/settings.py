"""The settings that the database has for the namespaces of a worker, and their changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from pgprog import logs
from pgprog.config import NamespaceSettings
from pgprog.config.stored import paths_of, split_known
from pgprog.errors import ConfigError
from pgprog.store.faults import OUTLIVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.engine.children import Children
    from pgprog.namespace import Namespace
    from pgprog.store.engine_store import EngineStore
    from pgprog.store.rows import Stored

log = logs.get(__name__)

_ALL = (1 << 31) - 1  # what an integer of PostgreSQL holds


class Owner(Protocol):
    """The worker, as far as settings concern it."""

    def settings_changed(self) -> None:
        """Learn that some of the served namespaces are under other settings."""
        ...


class Settings:
    """Keeps *served*, which others read, under the settings of the database.

    Each claim tells the sum of the versions, so that looking costs nothing while nothing changes;
    what it claimed runs under the settings that it saw.  Settings that this worker cannot obey are
    logged, and those before them stay.  Keys that only a newer pgprog knows are left out.
    """

    def __init__(
        self,
        namespaces: Sequence[Namespace[Any]],
        served: dict[str, Namespace[Any]],
        *,
        store: EngineStore,
        children: Children,
        owner: Owner,
    ) -> None:
        self._namespaces = namespaces
        self._names = [namespace.name for namespace in namespaces]
        self._served = served
        self._store = store
        self._children = children
        self._owner = owner
        self._versions: dict[str, int] = {}

    async def check_children(self) -> None:
        """Check that child processes can run what is to run in them, which may take a second.

        Raises:
            ConfigError: One cannot be imported there.
            StoreUnavailable: There is no database.
        """
        stored = await self._store.settings(self._names)
        await self._children.check(
            [each.name for each in self._namespaces if _is_isolated(each, stored.get(each.name))]
        )

    async def begin(self) -> None:
        """Take the settings of all namespaces, which the database has by now.

        Raises:
            ConfigError: The stored settings of a namespace have faults.
            StoreUnavailable: There is no database.
        """
        stored = await self._store.settings(self._names)
        for namespace in self._namespaces:
            taken = _under(namespace, stored[namespace.name])
            if taken.settings != namespace.settings:
                log.warning("settings_differ", namespace=namespace.name)
            self._store.metrics.settings.begin(namespace.name, namespace.settings)
            self._serve(taken)
        self._versions = {name: each.version for name, each in stored.items()}
        self._owner.settings_changed()

    async def follow(self, version: int) -> None:
        """Obey what has changed if the sum has; without a database, the next claim does."""
        if version == sum(self._versions.values()):
            return
        try:
            stored = await self._store.settings(self._names)
        except OUTLIVED as e:
            log.warning("settings_not_read", detail=str(e))
            return
        news = [
            each
            for each in self._namespaces
            if each.name in stored and stored[each.name].version != self._versions[each.name]
        ]
        for namespace in news:
            await self._change(namespace, stored[namespace.name])
        self._versions |= {name: each.version for name, each in stored.items()}
        if news:
            self._owner.settings_changed()

    def preloads(self) -> dict[str, int]:
        """Return how many events are loaded with a step, of the namespaces where any are."""
        found = {name: each.settings.history for name, each in self._served.items()}
        return {name: _ALL if most == "full" else most for name, most in found.items() if most}

    def all_are_isolated(self) -> bool:
        """Tell whether every step runs in a child process."""
        return all(each.settings.isolation == "process" for each in self._served.values())

    async def _change(self, namespace: Namespace[Any], stored: Stored) -> None:
        name = namespace.name
        try:
            taken = _under(namespace, stored)
            if taken.settings.isolation != self._served[name].settings.isolation:
                await self._children.check([name] if _is_isolated(namespace, stored) else [])
        except ConfigError as e:
            version = stored.version
            log.error("settings_refused", namespace=name, version=version, detail=str(e))  # noqa: TRY400 - the message says it all
            return
        self._serve(taken)
        log.info("settings_changed", namespace=name, version=stored.version)

    def _serve(self, taken: Namespace[Any]) -> None:
        self._served[taken.name] = taken
        self._store.metrics.settings.obey(taken.name, taken.settings)


def _is_isolated(namespace: Namespace[Any], stored: Stored | None) -> bool:
    plain = namespace.settings.to_json() if stored is None else json.loads(stored.settings)
    return bool(plain.get("isolation") == "process")


def _under(namespace: Namespace[Any], stored: Stored) -> Namespace[Any]:
    """Return a namespace under its *stored* settings.

    Raises:
        ConfigError: They have faults.
    """
    plain: Mapping[str, Any] = json.loads(stored.settings)
    known, unknown = split_known(plain)
    if unknown:
        paths = sorted(paths_of(unknown))
        log.warning("unknown_settings", namespace=namespace.name, settings=paths)
    settings = NamespaceSettings.from_json(
        known, where=f"the settings of {namespace.name} in the database"
    )
    return namespace.with_settings(settings)
