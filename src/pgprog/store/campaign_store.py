"""Repairs of many processes; a method has the name of the function it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pgprog.errors import InvalidArgument
from pgprog.store.operator_store import OperatorStore

if TYPE_CHECKING:
    from datetime import datetime


class Broken(NamedTuple):
    """Which processes in error are meant; None is any."""

    namespace: str
    error_type: str | None = None
    detail_like: str | None = None
    since: datetime | None = None


class Asked(NamedTuple):
    """What a campaign asks of each: a repair, or with *is_simple* a simple one without the rest."""

    is_simple: bool
    name: str | None = None
    args: bytes | None = None
    priority: int = 0


class Standing(NamedTuple):
    """How many processes of a campaign are where."""

    to_do: int
    open: int
    repaired: int
    failed: int
    skipped: int

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be asked or awaited any more."""
        return self.to_do + self.open == 0


class CampaignStore(OperatorStore):
    """An operator's store with campaigns."""

    async def broken_processes(self, broken: Broken, *, limit: int) -> list[dict[str, Any]]:
        """Return processes in error with what broke them, the longest broken first."""
        return await self._rows(
            "select process_id, broken_at, type, name, raised, detail, task_id"
            " from pgprog.broken_processes(%s, %s, %s, %s, %s)",
            (*broken, limit),
        )

    async def count_broken(self, broken: Broken) -> list[dict[str, Any]]:
        """Return how many processes are in error by what was raised, the most first."""
        return await self._rows(
            "select raised, count(*) as processes, min(broken_at) as first, max(broken_at) as last"
            " from pgprog.broken_processes(%s, %s, %s, %s) group by raised order by 2 desc, 1",
            broken,
        )

    async def begin_campaign(self, broken: Broken, asked: Asked, *, reason: str | None) -> int:
        """Fix the processes that are meant; return the campaign, which has asked for none yet."""
        args = asked.args if self._encryption is None else self._encryption.seal(asked.args)
        [[campaign_id]] = await self._fetch(
            "select pgprog.begin_campaign(  %s, %s, %s, %s::text::jsonb, %s, %s, %s, %s, %s)",
            (
                broken.namespace,
                "simple_repair" if asked.is_simple else "repair",
                asked.name,
                None if args is None else args.decode(),
                asked.priority,
                broken.error_type,
                broken.detail_like,
                broken.since,
                reason,
            ),
        )
        return int(campaign_id)

    async def continue_campaign(
        self, campaign_id: int, *, max_items: int, max_open: int
    ) -> Standing:
        """Note what has ended, ask for at most *max_items* more; return how it stands."""
        [row] = await self._fetch(
            "select to_do, open, repaired, failed, skipped"
            " from pgprog.continue_campaign(%s, %s, %s)",
            (campaign_id, max_items, max_open),
        )
        return Standing._make(row)

    async def namespace_of(self, campaign_id: int) -> str:
        """Return the namespace of a campaign.

        Raises:
            InvalidArgument: There is no such campaign.
        """
        rows = await self._read(
            "select namespace from pgprog.campaigns where campaign_id = %s", (campaign_id,)
        )
        if not rows:
            msg = f"no campaign {campaign_id}"
            raise InvalidArgument(msg)
        return str(rows[0][0])

    async def stop_campaign(self, campaign_id: int) -> int:
        """Ask for no more repairs; return how many processes are left as they are."""
        [[count]] = await self._fetch("select pgprog.stop_campaign(%s)", (campaign_id,))
        return int(count)

    async def campaigns(self, *, limit: int) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.campaigns, the newest first."""
        return await self._rows(
            "select * from pgprog.campaigns order by campaign_id desc limit %s", (limit,)
        )

    async def campaign_results(self, campaign_id: int) -> list[dict[str, Any]]:
        """Return rows of the view pgprog.campaign_results by process."""
        return await self._rows(
            "select process_id, outcome, detail, task_id, asked_at, corrupted_by"
            " from pgprog.campaign_results where campaign_id = %s order by process_id",
            (campaign_id,),
        )
