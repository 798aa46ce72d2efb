"""Many requests, checked and encoded field by field: a fifth of the price of one after another.

What holds a fault, or what nobody expected, is looked at again request by request, as
`pgprog.client.requests` does: only that names the field and says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pgprog.client.requests import (
    ASKED,
    checked_priority,
    checked_run_at,
    encoded,
    encoded_all,
    limits_of,
    raw_or_fault,
)
from pgprog.errors import InvalidArgument, PgprogError
from pgprog.model import TaskType
from pgprog.store.columns import Columns, Fields
from pgprog.store.rows import RawRequest
from pgprog.texts import NAME_BYTES, plain_texts
from pgprog.tracing import sent_context
from pgprog.tracing.spans import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from pgprog.client.requests import Payload
    from pgprog.model import Request
    from pgprog.namespace import Namespace

    NamespaceOf = Callable[[str], Namespace[Any] | None]

T = TypeVar("T")

# So many are made in a turn of the loop, which takes some 1 to 2 ms.
_AT_A_TURN = 200
_NO_FAULTS: Mapping[int, PgprogError] = {}


class Part(NamedTuple):
    """Requests that can be sent, and what is wrong with those between them, by their places."""

    requests: Columns
    faults: Mapping[int, PgprogError]


def parts_of(requests: Sequence[Request], *, namespace_of: NamespaceOf) -> Iterator[Part]:
    """Yield *requests* in parts, as they are sent, under the limits of their namespaces.

    Those of a namespace that is not known here only the database knows.
    """
    for start in range(0, len(requests), _AT_A_TURN):
        part = requests[start : start + _AT_A_TURN]
        columns = None if telemetry() is not None else _columns(part, namespace_of)
        yield _one_by_one(part, namespace_of) if columns is None else Part(columns, _NO_FAULTS)


def _one_by_one(requests: Sequence[Request], namespace_of: NamespaceOf) -> Part:
    """Return a part of what may be faulty, or has a span for each."""
    good: list[RawRequest] = []
    faults: dict[int, PgprogError] = {}
    for pos, request in enumerate(requests):
        name: object = request.namespace
        namespace = namespace_of(name) if isinstance(name, str) else None
        made = raw_or_fault(request, namespace=namespace)
        if isinstance(made, RawRequest):
            good.append(made)
        else:
            faults[pos] = made
    return Part(Columns.of(good), faults)


def _columns(requests: Sequence[Request], namespace_of: NamespaceOf) -> Columns | None:
    """Return *requests* as they are sent, None where they must be looked at one by one."""
    try:
        namespaces = [request.namespace for request in requests]
        known = {*map(namespace_of, {*namespaces})}
        [namespace] = known
        return Columns(_checked(requests, namespaces, namespace))
    except Exception:  # noqa: BLE001 - how a payload is written is application code, too
        return None


def _checked(
    requests: Sequence[Request], namespaces: Sequence[str], namespace: Namespace[Any] | None
) -> Fields:
    limits = limits_of(namespace)
    types = [request.type for request in requests]
    process_ids = [request.process_id for request in requests]
    names = [request.name for request in requests]
    keys = [request.idempotency_key for request in requests]
    run_ats = [request.run_at for request in requests]
    if not {*types} <= {*ASKED} or (TaskType.REPAIR in types and {*run_ats} != {None}):
        msg = "type or run_at"
        raise InvalidArgument(msg)
    args = [request.args for request in requests]
    contexts = [request.context for request in requests]
    return Fields(
        types=[*map(str, types)],
        namespaces=plain_texts(namespaces, field="namespace", limit=NAME_BYTES),
        process_ids=plain_texts(process_ids, field="process_id", limit=limits.id_bytes),
        argss=_encoded(args, field="args", namespace=namespace),
        names=_texts(names, field="name", limit=NAME_BYTES),
        keys=_texts(keys, field="idempotency_key", limit=limits.key_bytes),
        contexts=_sent(_encoded(contexts, field="context", namespace=namespace)),
        priorities=_priorities([request.priority for request in requests]),
        run_ats=_run_ats(run_ats),
    )


def _given(values: Sequence[T | None]) -> Sequence[T]:
    # No count of None: a value may be anything, and its own equality may be anything, too.
    return [value for value in values if value is not None]


def _texts(values: Sequence[str | None], *, field: str, limit: int) -> Sequence[str | None]:
    given = _given(values)
    plain = plain_texts(given, field=field, limit=limit)
    if plain is given:
        return values
    each = iter(plain)
    return [None if value is None else next(each) for value in values]


def _are_one(values: Sequence[object]) -> bool:
    return len({*map(id, values)}) == 1


def _encoded(
    values: Sequence[object], *, field: Payload, namespace: Namespace[Any] | None
) -> Sequence[bytes | None]:
    if _are_one(values):
        return [encoded(values[0], field=field, namespace=namespace)] * len(values)
    given = iter(encoded_all(_given(values), field=field, namespace=namespace))
    return [None if value is None else next(given) for value in values]


def _sent(contexts: Sequence[bytes | None]) -> Sequence[bytes | None]:
    if _are_one(contexts):
        return [sent_context(contexts[0])] * len(contexts)
    return [*map(sent_context, contexts)]


def _priorities(priorities: Sequence[int]) -> Sequence[int]:
    if {*map(type, priorities)} == {int}:
        checked_priority(min(priorities))
        checked_priority(max(priorities))
        return priorities
    return [*map(checked_priority, priorities)]


def _run_ats(run_ats: Sequence[datetime | None]) -> Sequence[datetime | None]:
    if _are_one(run_ats):
        return [checked_run_at(run_ats[0])] * len(run_ats)
    return [*map(checked_run_at, run_ats)]
