"""What a configuration says of namespaces, taken over into the database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pgprog.config.stored import Difference, differences, replaced
from pgprog.store import wakeups
from pgprog.store.operator_store import NewSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pgprog.namespace import Namespace
    from pgprog.store.operator_store import OperatorStore
    from pgprog.store.rows import Stored

CREATES: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Settings of a namespace before and after; *version* is theirs before, `CREATES` if none."""

    namespace: str
    version: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def differences(self) -> list[Difference]:
        """What changes, by path."""
        return differences(self.before, self.after)


async def plan(store: OperatorStore, namespaces: Sequence[Namespace[Any]]) -> list[Change]:
    """Return what must change so that the database has the settings of *namespaces*."""
    stored = await store.settings([each.name for each in namespaces])
    changes = [_change(each, stored.get(each.name)) for each in namespaces]
    return [each for each in changes if each.version == CREATES or each.differences]


async def make(store: OperatorStore, changes: Sequence[Change], *, reason: str | None) -> list[int]:
    """Make the changes, all or none, tell the workers, and return the new versions.

    Raises:
        SettingsMoved: Somebody else has changed one of the namespaces since they were planned.
        InvalidArgument: The database finds faults.
    """
    news = [
        NewSettings(each.namespace, msgspec.json.encode(each.after), each.version)
        for each in changes
    ]
    versions = await store.set_settings(news, reason=reason)
    await tell(store, [each.namespace for each in changes])
    return versions


async def tell(store: OperatorStore, namespaces: Sequence[str]) -> None:
    """Have the workers of *namespaces* look at once, if they listen: they claim, and see."""
    await store.announce(wakeups.DUE, namespaces)


def _change(namespace: Namespace[Any], stored: Stored | None) -> Change:
    before = {} if stored is None else json.loads(stored.settings)
    return Change(
        namespace=namespace.name,
        version=CREATES if stored is None else stored.version,
        before=before,
        after=replaced(before, namespace.settings),
    )
