"""Requests as the arrays that go to pgprog_engine.start, and what its rows say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgprog.store.packing import instants, integers, jsonbs, texts
from pgprog.store.rows import Claimed, RawRequest, Submitted

if TYPE_CHECKING:
    from collections.abc import Sequence

_STARTED = "started"
_FIRST_ATTEMPT = 1


def packed(columns: Sequence[Sequence[Any]]) -> tuple[object, ...]:
    """Return the fields of requests as the arrays of start and of submit_many."""
    types, namespaces, process_ids, args, names, keys, contexts, priorities, run_ats = columns
    return (
        texts(types),
        texts(namespaces),
        texts(process_ids),
        jsonbs(args),
        texts(names),
        texts(keys),
        jsonbs(contexts),
        integers(priorities),
        instants(run_ats),
    )


def submitted(request: RawRequest, row: Sequence[Any]) -> Submitted:
    """Return what became of a request, by its row of pgprog_engine.start."""
    _, outcome, message, task_id, claim_id, incarnation, created_at, *process = row
    if outcome != _STARTED:
        return Submitted(outcome, message, task_id, None)
    status, state_version, state, metadata, last_event_id, version = process
    claimed = Claimed(
        task_id,
        claim_id,
        incarnation,
        request.namespace,
        request.process_id,
        request.type,
        request.name,
        _FIRST_ATTEMPT,
        created_at,
        request.run_at or created_at,
        request.args,
        request.context,
        status,
        state_version,
        state,
        metadata,
        last_event_id,
        version,
    )
    return Submitted(outcome, message, task_id, claimed)
