"""The decoder of pgoutput: bytes in, messages out."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit import wire

from pgprog.errors import ReplicationLost
from pgprog.replication import messages as m
from pgprog.replication.messages import UNCHANGED
from pgprog.replication.pgoutput import Decoder
from pgprog.replication.transactions import Assembler

PROCESS = [b"orders", b"o-1", wire.int8(7), wire.jsonb('{"n": 1}')]
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
PROCESS_ROW = ("orders", "o-1", 7, b'{"n": 1}')


def decoder_of(described: bytes, **columns: list[str]) -> Decoder:
    decoder = Decoder({f"pgprog_data.{table}": names for table, names in columns.items()})
    decoder.decode(described)
    return decoder


def rows(changes: Any) -> list[Any]:
    return [change.new for change in changes]


def assembled(messages: list[bytes], *, max_bytes: int = 1 << 20) -> list[Any]:
    assembler = Assembler(Decoder(), max_bytes=max_bytes)
    told = [assembler.take(message) for message in messages]
    return [event for event in told if event is not None]


@pytest.fixture
def decoder() -> Decoder:
    return decoder_of(wire.relation())


def test_rows_of_each_kind_of_change_are_read(decoder: Decoder) -> None:
    key = [b"orders", b"o-0", None, None]
    inserted = decoder.decode(wire.insert(PROCESS))
    updated = decoder.decode(wire.update(PROCESS))
    renamed = decoder.decode(wire.update(PROCESS, old=key))
    deleted = decoder.decode(wire.delete(key))

    assert isinstance(inserted, m.Insert)
    assert inserted.new == PROCESS_ROW
    assert updated == m.Update(inserted.relation, None, PROCESS_ROW)
    assert renamed == m.Update(inserted.relation, ("orders", "o-0", None, None), PROCESS_ROW)
    assert deleted == m.Delete(inserted.relation, ("orders", "o-0", None, None))


def test_a_table_is_described_with_its_key(decoder: Decoder) -> None:
    relation = decoder.decode(wire.relation())

    assert isinstance(relation, m.Relation)
    assert (relation.schema, relation.name) == ("pgprog_data", "processes")
    assert [(column.name, column.is_key) for column in relation.columns] == [
        ("namespace", True),
        ("process_id", True),
        ("version", False),
        ("state", False),
    ]


def test_only_wanted_columns_are_read_and_in_the_order_asked_for() -> None:
    decoder = decoder_of(wire.relation(), processes=["state", "namespace"])

    change = decoder.decode(wire.insert(PROCESS))

    assert isinstance(change, m.Insert)
    assert change.new == (b'{"n": 1}', "orders")
    assert [column.name for column in change.relation.columns] == ["state", "namespace"]


@pytest.mark.parametrize("passed_over", [PROCESS[2], "7", None, ...])
def test_a_column_that_is_not_wanted_may_have_any_form(passed_over: Any) -> None:
    decoder = decoder_of(wire.relation(), processes=["namespace", "state"])

    change = decoder.decode(wire.insert([b"orders", b"o-1", passed_over, PROCESS[3]]))

    assert isinstance(change, m.Insert)
    assert change.new == ("orders", b'{"n": 1}')


def test_a_table_without_a_wanted_column_is_refused_with_the_fix() -> None:
    with pytest.raises(ReplicationLost, match=r"pgprog_data\.processes.*colour") as refused:
        decoder_of(wire.relation(), processes=["namespace", "colour"])

    assert refused.value.hint == "run `pgprog db migrate --again`"


@pytest.mark.parametrize(
    ("type_oid", "binary", "text", "value"),
    [
        (16, b"\1", "t", True),
        (16, b"\0", "f", False),
        (17, b"", "\\x", b""),
        (17, b"\0\xff", "\\x00ff", b"\0\xff"),
        (18, b"w", "w", "w"),
        (19, b"name", "name", "name"),
        (20, wire.int8(-(2**63)), str(-(2**63)), -(2**63)),
        (21, b"\xff\xfe", "-2", -2),
        (23, b"\0\0\1\0", "256", 256),
        (25, b"", "", ""),
        (25, "ä€😀".encode(), "ä€😀", "ä€😀"),
        (26, b"\xff\xff\xff\xff", "4294967295", 4294967295),
        (114, b'{"a":1}', '{"a":1}', b'{"a":1}'),
        (1043, b"v", "v", "v"),
        (3802, b"\1[]", "[]", b"[]"),
        (5069, b"\xff" * 8, str(2**64 - 1), 2**64 - 1),
        (
            2950,
            bytes(range(16)),
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        (1184, wire.int8(0), "2000-01-01 00:00:00+00", datetime(2000, 1, 1, tzinfo=UTC)),
        (
            1184,
            wire.int8(848_361_600_123_457),
            "2026-11-19 00:00:00.123457+00",
            datetime(2026, 11, 19, 0, 0, 0, 123457, tzinfo=UTC),
        ),
        (
            1184,
            wire.int8(252_455_615_999_999_999),
            "9999-12-31 23:59:59.999999+00",
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        ),
        (1184, wire.int8(2**63 - 1), "infinity", LAST),
        (1184, wire.int8(-(2**63)), "-infinity", FIRST),
        (1184, wire.int8(252_455_616_000_000_000), "10000-01-01 00:00:00+00", LAST),
        (1184, wire.int8(-63_113_904_000_000_001), "0001-12-31 23:59:59+00 BC", FIRST),
        (99999, b"any", "any", b"any"),
    ],
)
def test_a_type_has_the_same_value_in_binary_and_as_text(
    type_oid: int, binary: bytes, text: str, value: Any
) -> None:
    decoder = decoder_of(wire.relation([("c", type_oid)]))

    inserted = [decoder.decode(wire.insert([form])) for form in (binary, text)]

    assert rows(inserted) == [(value,), (value,)]
    assert {type(value) for row in rows(inserted) for value in row} == {type(value)}


def test_each_microsecond_of_the_next_centuries_is_itself() -> None:
    decoder = decoder_of(wire.relation([("at", wire.TIMESTAMPTZ)]))
    start = datetime(2000, 1, 1, tzinfo=UTC)
    for microseconds in range(-6_999_999_999_999_999, 7_100_000_000_000_000, 13_999_999_998_711):
        (change,) = rows([decoder.decode(wire.insert([wire.int8(microseconds)]))])
        since = change[0] - start
        assert (since.days * 86400 + since.seconds) * 10**6 + since.microseconds == microseconds


def test_15_null_empty_unchanged_and_a_megabyte_are_told_apart() -> None:
    decoder = decoder_of(wire.relation([(name, wire.BYTEA) for name in "abcd"]))
    state = bytes(range(256)) * 4096

    change = decoder.decode(wire.update([None, b"", ..., state]))

    assert isinstance(change, m.Update)
    assert change.new == (None, b"", UNCHANGED, state)


def test_truncate_names_its_tables() -> None:
    decoder = decoder_of(wire.relation())
    decoder.decode(wire.relation([("incarnation", wire.INT8)], oid=5, name="events"))

    message = decoder.decode(wire.truncate([wire.TABLE, 5]))

    assert isinstance(message, m.Truncate)
    assert [relation.name for relation in message.relations] == ["processes", "events"]


def test_types_origins_and_logical_messages_are_read() -> None:
    decoder = Decoder()

    assert decoder.decode(b"Y\0\0\x40\1public\0colour\0") == m.TypeName(16385, "public", "colour")
    assert decoder.decode(b"O" + struct.pack("!Q", 9) + b"north\0") == m.Origin(9, "north")
    assert decoder.decode(
        b"M\1" + struct.pack("!Q", 9) + b"pgprog\0" + struct.pack("!I", 2) + b"\0x"
    ) == m.LogicalMessage(True, 9, "pgprog", b"\0x")


@pytest.mark.parametrize("message", [b"S\0\0\0\1\1", b"E", b"", b"\xff"])
def test_a_message_that_is_none_of_the_protocol_is_refused_by_name(message: bytes) -> None:
    with pytest.raises(ReplicationLost, match=r"pgoutput 1 does not have: b'"):
        Decoder().decode(message)


def test_a_row_of_a_table_that_was_not_described_is_refused() -> None:
    with pytest.raises(ReplicationLost, match="a message I of"):
        Decoder().decode(wire.insert(PROCESS))


@pytest.mark.parametrize(
    "whole",
    [
        wire.insert(PROCESS),
        wire.update(PROCESS, old=PROCESS),
        wire.delete(PROCESS),
        wire.truncate([wire.TABLE]),
        wire.relation(),
        wire.begin(1),
        wire.commit(1),
    ],
    ids=lambda whole: whole[:1].decode(),
)
def test_a_message_that_is_cut_short_is_refused_wherever_it_is_cut(whole: bytes) -> None:
    for end in range(1, len(whole)):
        with pytest.raises(ReplicationLost, match=f"message {whole[:1].decode()} of {end} bytes"):
            decoder_of(wire.relation()).decode(whole[:end])


@pytest.mark.parametrize("whole", [wire.insert(PROCESS), wire.delete(PROCESS)])
def test_a_message_with_bytes_behind_its_end_is_refused(decoder: Decoder, whole: bytes) -> None:
    with pytest.raises(ReplicationLost):
        decoder.decode(whole + b"n")


def test_a_row_with_other_columns_than_its_table_is_refused(decoder: Decoder) -> None:
    with pytest.raises(ReplicationLost, match="another number of columns"):
        decoder.decode(wire.insert([*PROCESS, None]))


def test_a_new_description_changes_how_rows_are_read(decoder: Decoder) -> None:
    decoder.decode(wire.relation([*wire.COLUMNS, ("detail", wire.TEXT)]))

    change = decoder.decode(wire.insert([*PROCESS, b"new"]))

    assert isinstance(change, m.Insert)
    assert change.new == (*PROCESS_ROW, "new")


def test_a_transaction_is_told_at_its_end_and_whole() -> None:
    messages = wire.transaction(7, [wire.relation(), wire.insert(PROCESS), wire.update(PROCESS)])

    (told,) = assembled(messages)

    assert (told.xid, told.end_lsn, told.committed_us) == (7, 57, 1_000_000)
    assert [type(change) for change in told.changes] == [m.Insert, m.Update]
    assert told.size == sum(map(len, messages[1:]))


def test_a_transaction_without_changes_is_progress_only() -> None:
    assert assembled(wire.transaction(7, [])) == [m.Progress(57)]


def test_within_a_transaction_a_keepalive_is_no_progress() -> None:
    assembler = Assembler(Decoder(), max_bytes=100)
    before = assembler.progress(50)
    assembler.take(wire.begin(7))
    within = assembler.progress(56)
    assembler.take(wire.commit(7))

    assert before == m.Progress(50)
    assert within is None
    assert assembler.progress(60) == m.Progress(60)


def test_a_transaction_over_the_bound_is_told_without_its_changes_and_holds_no_memory() -> None:
    big = wire.insert([*PROCESS[:3], wire.jsonb("1" * 500)])
    assembler = Assembler(Decoder(), max_bytes=2000)
    for message in [wire.begin(7), wire.relation(), *[big] * 1000]:
        assembler.take(message)
        assert len(assembler._changes) <= 4
    told = assembler.take(wire.commit(7))

    assert told == m.Oversized(7, 57, len(wire.relation()) + 1000 * len(big) + len(wire.commit(7)))


def test_many_small_changes_are_over_the_bound_by_what_they_take_in_memory() -> None:
    small = wire.insert([b"o", None, None, None])
    changes = [small] * 10_000
    assert 10_000 * len(small) < 1 << 18

    (told,) = assembled([wire.relation(), *wire.transaction(7, changes)], max_bytes=1 << 20)

    assert isinstance(told, m.Oversized)


def test_after_a_transaction_over_the_bound_the_next_is_whole() -> None:
    big = wire.insert([*PROCESS[:3], wire.jsonb("1" * 500)])
    messages = [wire.relation(), *wire.transaction(7, [big] * 9), *wire.transaction(8, [big])]

    oversized, told = assembled(messages, max_bytes=2000)

    assert isinstance(oversized, m.Oversized)
    assert (told.xid, len(told.changes)) == (8, 1)


def test_14_another_shape_of_a_table_is_told_before_its_rows_and_the_same_one_is_not() -> None:
    wider = [*wire.COLUMNS, ("detail", wire.TEXT)]
    told = assembled(
        [
            *wire.transaction(1, [wire.relation(), wire.insert(PROCESS)]),
            *wire.transaction(2, [wire.relation(), wire.insert(PROCESS)]),
            *wire.transaction(3, [wire.relation(wider), wire.insert([*PROCESS, None])]),
        ]
    )

    kinds = [[type(change) for change in transaction.changes] for transaction in told]
    assert kinds == [[m.Insert], [m.Insert], [m.Reshaped, m.Insert]]


@pytest.mark.parametrize(
    "messages",
    [
        [wire.begin(1), wire.begin(2)],
        [wire.commit(1)],
        [wire.relation(), wire.insert(PROCESS)],
    ],
    ids=["begin-begin", "commit", "insert"],
)
def test_messages_out_of_order_are_refused(messages: list[bytes]) -> None:
    with pytest.raises(ReplicationLost):
        assembled(messages)
