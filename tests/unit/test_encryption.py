"""Sealed payloads: keys, rotation, and what a repeat is recognised by."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from pgprog.encryption import Encryption, canonical, is_sealed, key_id_of, sealed_process
from pgprog.errors import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW, MARK = b"o" * 32, b"n" * 32, b"fingerprint-key-1"
RAW = b'{"secret":1.10}'


def encryption(current: str = "new", **keys: bytes) -> Encryption:
    return Encryption(keys=keys or {"old": OLD, "new": NEW}, current=current, fingerprint_key=MARK)


def test_what_is_sealed_shows_nothing_and_is_opened_as_it_was() -> None:
    sealed = encryption().seal(RAW)

    assert sealed is not None
    assert is_sealed(sealed)
    assert key_id_of(sealed) == "new"
    assert b"secret" not in sealed
    assert json.loads(sealed).keys() == {"pgprog:sealed"}
    assert encryption().open(sealed) == RAW


def test_the_same_is_sealed_differently_each_time() -> None:
    assert encryption().seal(RAW) != encryption().seal(RAW)


def test_what_lies_within_json_of_postgresql_is_opened_where_it_lies() -> None:
    one, other = (json.dumps(json.loads(encryption().seal(raw) or b"")) for raw in (RAW, b"[2]"))
    document = f'{{"state": {one}, "history": [{{"payload": {other}, "n": 1.50}}]}}'.encode()

    opened = encryption().open(document)

    assert opened == b'{"state": {"secret":1.10}, "history": [{"payload": [2], "n": 1.50}]}'


def test_payloads_under_an_old_key_stay_readable_after_a_rotation() -> None:
    before = encryption("old").seal(RAW)

    assert before is not None
    assert encryption("new").open(before) == RAW
    assert key_id_of(encryption("new").seal(RAW) or b"") == "new"


@pytest.mark.parametrize("keys", [{"old": OLD}, {"old": OLD, "new": b"x" * 32}])
def test_without_the_right_key_a_payload_stays_sealed(keys: dict[str, bytes]) -> None:
    sealed = encryption().seal(RAW)

    assert sealed is not None
    assert encryption("old", **keys).open(sealed) == sealed


def test_a_payload_that_was_changed_stays_sealed() -> None:
    sealed = encryption().seal(RAW) or b""
    text = json.loads(sealed)["pgprog:sealed"].rpartition(".")[2]
    changed = bytearray(base64.urlsafe_b64decode(text))
    changed[-1] ^= 1
    damaged = sealed.replace(text.encode(), base64.urlsafe_b64encode(changed))

    assert damaged != sealed
    assert encryption().open(damaged) == damaged


@pytest.mark.parametrize("text", ["", "A", "AAAA", "AAAAA", "AA=A", "===="])
def test_what_only_looks_like_a_sealed_payload_stays_as_it_is(text: str) -> None:
    raw = json.dumps({"pgprog:sealed": f"1.new.{text}"}).encode()

    assert encryption().open(raw) == raw


def test_nothing_and_what_is_sealed_are_not_sealed_again() -> None:
    sealed = encryption().seal(RAW)

    assert encryption().seal(None) is None
    assert encryption().seal(sealed) == sealed


def mark_of(raw: bytes, *, key: str = "k", current: str = "new") -> str:
    sealed = encryption(current).seal_args(raw, idempotency_key=key)
    mark: str = json.loads(sealed or b"")["pgprog:fingerprint"]
    return mark


def test_args_under_a_key_are_recognised_though_their_ciphertext_differs() -> None:
    assert mark_of(b'{"a": 1.0, "b": [100]}') == mark_of(b'{"b":[1e2],"a":1}', current="old")
    assert mark_of(RAW) != mark_of(b'{"secret":1.11}')
    assert mark_of(RAW) != mark_of(RAW, key="other")
    sealed = encryption().seal_args(RAW, idempotency_key="k")
    assert encryption().open(sealed or b"") == RAW
    plain = encryption().seal_args(RAW, idempotency_key=None)
    assert b"fingerprint" not in (plain or b"")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"1", b"1.00", True),
        (b"-0.0", b"0", True),
        (b"1E+2", b"100", True),
        (b"-1.50e-3", b"-0.0015", True),
        (b"-1", b"1", False),
        (b"1e999999999", b"10e999999998", True),
        (b"0.10000000000000000000000000000000001", b"0.1", False),
        (b'"1"', b"1", False),
        (b"true", b"1", False),
        (b'["number","1"]', b"1", False),
        (b'["object",{}]', b"{}", False),
        (b"null", b"0", False),
        (b'{"a":1,"b":2}', b'{"b":2,"a":1}', True),
    ],
)
def test_json_is_compared_as_jsonb_is(one: bytes, other: bytes, same: bool) -> None:
    assert (canonical(one) == canonical(other)) is same


@pytest.mark.parametrize(
    "raw",
    [b'{"a":' * 900 + b"1" + b"}" * 900, b"1" * 5000, b"1e99999999999999999999"],
    ids=["deep", "long", "great"],
)
def test_what_cannot_be_compared_is_refused_under_a_key_and_only_there(raw: bytes) -> None:
    with pytest.raises(InvalidArgument, match="under a key"):
        encryption().seal_args(raw, idempotency_key="k")

    assert encryption().seal_args(raw, idempotency_key=None) is not None


def test_a_process_to_be_put_has_its_payloads_sealed_and_the_rest_open() -> None:
    process = {
        "namespace": "orders",
        "state": {"secret": 1},
        "metadata": None,
        "history": [{"event_id": 1, "payload": {"secret": 2}, "metadata": {"secret": 3}}],
    }
    raw = json.dumps(process).encode()

    sealed = sealed_process(encryption(), raw, idempotency_key=None)

    assert b"secret" not in sealed
    assert json.loads(sealed)["history"][0]["event_id"] == 1
    assert json.loads(encryption().open(sealed)) == process


def test_faults_of_keys_are_told_all_at_once_and_no_key_is() -> None:
    with pytest.raises(ConfigError) as caught:
        Encryption(keys={"a b": NEW, "short": b"secret"}, current="gone", fingerprint_key=b"few")

    told = str(caught.value)
    assert "'a b': an id has" in told
    assert "'short': it has 6 bytes" in told
    assert "current is 'gone'" in told
    assert "fingerprint_key has 3 bytes" in told
    assert "secret" not in told
    assert repr(encryption()) == "<encryption under new, readable: old, new>"


def test_keys_are_read_from_a_file(tmp_path: Path) -> None:
    keys = {"old": base64.b64encode(OLD).decode(), "new": base64.b64encode(NEW).decode()}
    plain = {"current": "new", "keys": keys, "fingerprint_key": base64.b64encode(MARK).decode()}
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(plain))

    assert Encryption.from_file(file).open(encryption().seal(RAW) or b"") == RAW


@pytest.mark.parametrize("text", ["secret", '{"keys": {"a": "sec!ret"}}', "{}"])
def test_a_file_of_other_things_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"keys\.json holds no keys") as caught:
        Encryption.from_file(file)
    assert "sec" not in str(caught.value)

    with pytest.raises(ConfigError, match=r"cannot read the keys of .*absent: No such file"):
        Encryption.from_file(tmp_path / "absent")
