"""Steps whose payloads are sealed under a key that this worker does not have."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgprog import logs
from pgprog.encryption import is_sealed, key_id_of

if TYPE_CHECKING:
    from pgprog.store.rows import Claimed

log = logs.get(__name__)

# A worker without the key lets others try, but not in a storm of claims.
_WAIT_SECONDS = 1.0


def sealed_part(claimed: Claimed) -> bytes | None:
    """Return a payload of a step that could not be opened, None where all is open."""
    for raw in (claimed.args, claimed.state, claimed.metadata):
        if is_sealed(raw):
            return raw
    return None


async def let_others_try(sealed: bytes) -> None:
    """Say which key is missing, and wait: the task is for a worker that has it.

    A key that is wrong looks as one that is missing does: nothing is lost by either.
    """
    log.error("payload_cannot_be_opened", key_id=key_id_of(sealed))
    await asyncio.sleep(_WAIT_SECONDS)
