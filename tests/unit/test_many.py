"""Many requests, checked field by field: what is sent, and what is refused, is as one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest
from tests.folded import Folded

from pgprog import Namespace, Request
from pgprog.client.many import parts_of
from pgprog.client.requests import listed, raw_or_fault
from pgprog.errors import PgprogError
from pgprog.model import Limits, TaskType
from pgprog.tracing import carry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgprog.store.rows import RawRequest

SOON = datetime(2030, 1, 1, tzinfo=UTC)
SHOP = Namespace(
    "shop", limits=Limits(args_bytes=20, context_bytes=10, key_bytes=5), numbers="decimal"
)


class Name(StrEnum):
    PAY = "pay"


def no_namespace(name: str) -> None:
    del name


def namespace_of(name: str) -> Namespace[Any] | None:
    return SHOP if name == "shop" else None


def made(requests: Sequence[Request], of: Any = no_namespace) -> list[RawRequest | PgprogError]:
    """Return what `parts_of` makes of each request, in order."""
    found: list[RawRequest | PgprogError] = []
    for part in parts_of(requests, namespace_of=of):
        good = iter(part.requests)
        count = len(part.requests) + len(part.faults)
        found += [part.faults.get(pos) or next(good) for pos in range(count)]
    return found


def shown(made: Sequence[RawRequest | PgprogError]) -> list[object]:
    return [(type(e), str(e)) if isinstance(e, PgprogError) else tuple(e) for e in made]


def call(process_id: Any = "p", args: object = None, **more: Any) -> Request:
    return Request(
        more.pop("type", "call"), more.pop("namespace", "shop"), process_id, args, **more
    )


PLAIN = [
    [call(str(number)) for number in range(450)],
    [call("p", {"a": number}, name="pay", idempotency_key=str(number)) for number in range(5)],
    [call("p", {"a": 1}, name=None if number % 2 else "pay") for number in range(5)],
    [call("p", None if number % 2 else [number], context=[number]) for number in range(5)],
    [call("é", {"a": "é"}, name="é"), call("ü")],
    [call(type=TaskType.INIT), call(type="notify"), call(type=TaskType.REPAIR)],
    [call(name=Name.PAY, priority=True + 1), call(name="pay", priority=-1_000_000)],
    [call(run_at=SOON), call(run_at=None), call(run_at=SOON + timedelta(microseconds=1))],
    [call(args={"a": None, "b": "\\u0000"}), call(args={"text": "null"}), call(args=1)],
    [call(namespace="shop"), call(namespace="other", args="x" * 50)],
]
FAULTY = [
    call(type="timeout"),
    call(type=TaskType.REPAIR, run_at=SOON),
    call(type=["call"]),
    call(namespace=""),
    call(namespace="n" * 257),
    call(""),
    call("p" * 1025),
    call("é" * 513),
    call(None),
    call(17),
    call("a\0b"),
    call("\ud800"),
    call(name=""),
    call(name=b"pay"),
    call(idempotency_key=""),
    call(idempotency_key="k" * 1025),
    call(args={"a": float("nan")}),
    call(args={"a": "\0"}),
    call(args=object()),
    call(context={"a": float("inf")}),
    call(namespace=["shop"]),
    call(priority=True),
    call(priority=1_000_001),
    call(priority=-1_000_001),
    call(priority=1.5),
    call(run_at="soon"),
    call(run_at=datetime(2030, 1, 1)),  # noqa: DTZ001 - that it has no zone is the fault
    call(run_at=datetime(1969, 1, 1, tzinfo=UTC)),
]


@pytest.mark.parametrize("of", [no_namespace, namespace_of])
@pytest.mark.parametrize("requests", PLAIN)
def test_many_requests_are_sent_as_one_by_one(requests: list[Request], of: Any) -> None:
    found = made(requests, of)

    assert shown(found) == shown([raw_or_fault(r, namespace=of(r.namespace)) for r in requests])
    assert {type(each.type) for each in found if not isinstance(each, PgprogError)} <= {str}


@pytest.mark.parametrize("of", [no_namespace, namespace_of])
@pytest.mark.parametrize("faulty", FAULTY, ids=repr)
def test_one_faulty_request_among_many_is_refused_as_it_is_alone(faulty: Request, of: Any) -> None:
    good = call("p", {"a": 1}, name="pay", context=[1])
    name: object = faulty.namespace
    alone = raw_or_fault(faulty, namespace=of(name) if isinstance(name, str) else None)

    before, refused, after = made([good, faulty, good], of)

    assert isinstance(alone, PgprogError)
    assert shown([refused]) == shown([alone])
    assert before == after == raw_or_fault(good, namespace=of("shop"))


def test_texts_are_sent_without_their_class_whose_equality_may_be_anything() -> None:
    asked = [
        call(Folded("p"), name=Folded("pay"), idempotency_key=Folded("k"), namespace=Folded("shop"))
    ]
    alone = raw_or_fault(asked[0], namespace=None)
    fields = [*made(asked, no_namespace), *made([*asked, call()], no_namespace)[:1]]

    for sent in (alone, *fields):
        assert not isinstance(sent, PgprogError)
        texts = (sent.namespace, sent.process_id, sent.name, sent.idempotency_key)
        assert texts == ("shop", "p", "pay", "k")
        assert {*map(type, texts)} == {str}


def test_what_is_no_request_is_told_by_its_place() -> None:
    requests: Any = (call(), {"type": "call"})
    with pytest.raises(TypeError, match=r"requests\[1\] is dict, a Request is needed"):
        listed(requests)


@pytest.mark.parametrize(
    "faulty",
    [
        call(args="x" * 19),
        call(context="x" * 9),
        call(idempotency_key="k" * 6),
        call("p" * 257),
        call("é" * 129),
    ],
    ids=["args", "context", "key", "id", "id of two bytes each"],
)
def test_limits_of_a_namespace_that_is_known_are_kept_for_each(faulty: Request) -> None:
    found = made(
        [call(args="x" * 18, context="x" * 8, idempotency_key="k" * 5), faulty], namespace_of
    )

    assert [isinstance(each, PgprogError) for each in found] == [False, True]
    assert "limit is" in str(found[1])


def test_what_travels_goes_with_each_of_many() -> None:
    with carry(correlation_id="c-1"):
        first, second = made([call(), call(context={"tenant": 5})])
        [*same] = made([call(), call()])

    assert not isinstance(first, PgprogError)
    assert not isinstance(second, PgprogError)
    assert first.context == b'{"correlation_id":"c-1"}'
    assert second.context == b'{"correlation_id":"c-1","tenant":5}'
    assert same == [first, first]
