"""Claims as the database would give them."""

from __future__ import annotations

from typing import Any

from pgprog.store.rows import Claimed


def make_claim(claim_id: int, **values: Any) -> Claimed:
    """Return a claim of a call, its task numbered as the claim is."""
    row = dict.fromkeys(Claimed._fields) | {"task_id": claim_id, "claim_id": claim_id}
    row |= {"namespace": "shop", "process_id": "s", "type": "call", "attempt": 1}
    return Claimed(**(row | values))  # type: ignore[arg-type] # what no test looks at is null
