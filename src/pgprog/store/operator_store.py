"""What only operators ask of the database; a method has the name of the function it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pgprog.store.client_store import ClientStore
from pgprog.store.packing import bigints, jsonbs, texts
from pgprog.store.rows import Stored

if TYPE_CHECKING:
    from collections.abc import Sequence


class NewSettings(NamedTuple):
    """Settings for a namespace, raw JSON, and the version they were made from: 0 creates it."""

    namespace: str
    settings: bytes
    version: int


class OperatorStore(ClientStore):
    """A client's store with what changes namespaces as a whole."""

    async def settings(self, namespaces: Sequence[str]) -> dict[str, Stored]:
        """Return the settings of those of these namespaces that the database knows."""
        rows = await self._read(
            "select namespace, settings, settings_version from pgprog.namespaces"
            " where namespace = any (%s)",
            (texts(namespaces),),
        )
        return {
            namespace: Stored(bytes(settings), version) for namespace, settings, version in rows
        }

    async def set_settings(
        self, changes: Sequence[NewSettings], *, reason: str | None
    ) -> list[int]:
        """Change the settings of namespaces, all or none; return their new versions.

        Raises:
            NamespaceNotFound: One is not there, or no more.
            SettingsMoved: Somebody else has changed one meanwhile.
            InvalidArgument: A setting is wrong; the message lists all that are.
        """
        # Rows are locked in this order, by everybody.
        ordered = sorted(changes)
        rows = await self._fetch(
            "select pgprog.set_settings(x.name, x.settings, x.version, %s)"
            " from unnest(%s::text[], %s::jsonb[], %s::bigint[]) as x(name, settings, version)",
            (
                reason,
                texts([each.namespace for each in ordered]),
                jsonbs([each.settings for each in ordered]),
                bigints([each.version for each in ordered]),
            ),
        )
        versions = {each.namespace: row[0] for each, row in zip(ordered, rows, strict=True)}
        return [versions[each.namespace] for each in changes]

    async def rollback_settings(
        self, namespace: str, to_version: int, *, version: int, reason: str | None
    ) -> int:
        """Return to the settings of an earlier version; return the number of the new one.

        Raises:
            SettingsMoved: They are not at *version* any more.
            NamespaceNotFound: There is none, or it never had such a version.
        """
        [[new]] = await self._fetch(
            "select pgprog.rollback_settings(%s, %s, %s, %s)",
            (namespace, to_version, version, reason),
        )
        return int(new)

    async def purge(self, namespace: str, *, after: int, max_rows: int) -> tuple[int, int | None]:
        """Erase some of a paused namespace; return how many rows, and what comes *after*.

        None when all is gone; the same with no rows erased: ask again in a moment.
        """
        [[erased, following]] = await self._fetch(
            "select erased, next from pgprog.purge(%s, %s, %s)", (namespace, after, max_rows)
        )
        return erased, following

    async def set_log_level(self, level: str, worker_id: int | None) -> list[dict[str, Any]]:
        """Ask a worker, or all that live, for a log level; return which, with those before."""
        rows = await self._fetch("select * from pgprog.set_log_level(%s, %s)", (level, worker_id))
        return [
            {"worker_id": worker, "name": name, "before": before} for worker, name, before in rows
        ]

    async def asked_log_levels(self, worker_ids: Sequence[int]) -> set[int]:
        """Return those of these workers that have not obeyed yet, and live."""
        rows = await self._read(
            "select worker_id from pgprog.workers where worker_id = any (%s)"
            " and asked_log_level is not null and lease_until > clock_timestamp()",
            (bigints(worker_ids),),
        )
        return {worker_id for (worker_id,) in rows}

    async def settings_at(self, namespace: str, version: int) -> bytes | None:
        """Return the settings that a namespace had at a version, None if there was none."""
        rows = await self._read(
            "select settings from pgprog.settings_history"
            " where namespace = %s and settings_version = %s",
            (namespace, version),
        )
        return bytes(rows[0][0]) if rows else None

    async def settings_history(self, namespace: str, *, limit: int) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.settings_history, the newest first."""
        return await self._rows(
            "select * from pgprog.settings_history where namespace = %(namespace)s"
            " order by settings_version desc limit %(limit)s",
            {"namespace": namespace, "limit": limit},
        )
