"""Requests as the arrays that go to pgprog_engine.start, and what its rows say of them."""

from __future__ import annotations

import struct
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from pgprog.store.packing import instants, integers, jsonbs, texts
from pgprog.store.rows import Claimed, RawRequest, Submitted

if TYPE_CHECKING:
    from collections.abc import Sequence

# Mostly all are queued: one row says it, for a tenth of what a row for each costs the client.
# Of integers side by side Python makes a tuple at once; psycopg would load an array one by one.
SUBMIT_MANY: Final = """
select
  s.outcome, s.message,
  string_agg(int4send(s.pos), ''), string_agg(int8send(coalesce(s.task_id, 0)), '')
from pgprog.submit_many(%s, %s, %s, %s, %s, %s, %s, %s, %s) as s
group by s.outcome, s.message
"""

_STARTED = "started"
_FIRST_ATTEMPT = 1
# A function of C, where `Submitted` and its `_make` are of Python.
_submitted = partial(tuple.__new__, Submitted)


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


def outcomes(rows: Sequence[tuple[str, str | None, bytes, bytes]]) -> list[Submitted]:
    """Return what became of each request in order, by the rows of `SUBMIT_MANY`.

    They are outcome, message, and as big-endian integers of 32 and of 64 bits the positions from 1
    and the tasks, 0 for none.
    """
    found: dict[int, Submitted] = {}
    for outcome, message, positions, task_ids in rows:
        count = len(task_ids) // 8
        ids = struct.unpack(f"!{count}q", task_ids)
        same = map(_submitted, zip(repeat(outcome), repeat(message), ids, repeat(None)))
        at = struct.unpack(f"!{count}i", positions)
        if len(rows) == 1 and at == tuple(range(1, count + 1)):  # nearly always
            return [*same]
        found.update(zip(at, same, strict=True))
    return [*map(found.__getitem__, range(1, len(found) + 1))]


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
        created_at,  # what is started has come due when it was asked for, whatever its run_at
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
