"""Payloads that lie sealed in the database, by AES-GCM with keys that clients and workers have.

A sealed payload is the JSON `{"pgprog:sealed": "1.KEY-ID.BASE64"}`, which is what everybody sees
who reads it without the key.  Python clients and workers with the key see and give payloads as
ever.  Needs the package cryptography (`pgprog[encryption]`).
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from pgprog.codec import Misfit, decode
from pgprog.errors import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

_BEGINNING = b'{"pgprog:sealed"'
# As PostgreSQL writes jsonb, and as we do.
_SEALED = re.compile(
    rb'\{"pgprog:sealed": ?"1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_=-]+)"'
    rb'(?:, ?"pgprog:fingerprint": ?"[0-9a-f]+")?\}'
)
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NONCE_BYTES = 12
_KEY_BYTES = (16, 24, 32)
_LEAST_FINGERPRINT_BYTES = 16


class Encryption(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Keys by their ids: what is written is sealed under *current*, what is read under any.

    To rotate, add a key to all readers, then make it current, and keep the old one for as long as
    there are payloads under it.  *fingerprint_key* stays the same: by it a repeat under an
    idempotency key is recognised, though its ciphertext is another.

    Raises:
        ConfigError: A key has no length of AES, or an id cannot be one.
    """

    keys: dict[str, bytes]
    current: str
    fingerprint_key: bytes

    def __post_init__(self) -> None:
        faults = [
            f"key {key_id!r}: {fault}"
            for key_id, key in self.keys.items()
            if (fault := _fault_of(key_id, key)) is not None
        ]
        if self.current not in self.keys:
            faults.append(f"current is {self.current!r}; known: {', '.join(self.keys) or 'none'}")
        if len(self.fingerprint_key) < _LEAST_FINGERPRINT_BYTES:
            faults.append(f"fingerprint_key has {len(self.fingerprint_key)} bytes, 16 are needed")
        if faults:
            raise ConfigError("encryption: " + "; ".join(faults))
        _aes(self.keys[self.current])

    def __repr__(self) -> str:
        return f"<encryption under {self.current}, readable: {', '.join(self.keys)}>"

    @classmethod
    def from_file(cls, path: Path) -> Encryption:
        """Return the keys of a JSON file: `current`, `keys` and `fingerprint_key`, in base64.

        Raises:
            ConfigError: It cannot be read; the message repeats nothing of it.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as e:
            msg = f"cannot read the keys of {path}: {e.strerror}"
            raise ConfigError(msg) from e
        except msgspec.DecodeError as e:
            msg = f"{path} holds no keys: {e}"
            raise ConfigError(msg) from None

    def seal(self, raw: bytes | None) -> bytes | None:
        """Return JSON sealed; None and what is sealed stay."""
        if raw is None or is_sealed(raw):
            return raw
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + _aes(self.keys[self.current]).encrypt(nonce, raw, _bound(self.current))
        text = base64.urlsafe_b64encode(sealed)
        return b'%b:"1.%b.%b"}' % (_BEGINNING, self.current.encode(), text)

    def seal_args(self, raw: bytes | None, *, idempotency_key: str | None) -> bytes | None:
        """Return the args of a request sealed, with what a repeat of it is recognised by."""
        sealed = self.seal(raw)
        if raw is None or sealed is None or idempotency_key is None or is_sealed(raw):
            return sealed
        plain = idempotency_key.encode() + b"\0" + canonical(raw)
        mark = hmac.new(self.fingerprint_key, plain, "sha256").hexdigest()
        return b'%b,"pgprog:fingerprint":"%b"}' % (sealed[:-1], mark.encode())

    def open(self, raw: bytes) -> bytes:
        """Return JSON with all that is sealed in it opened, as far as we have the keys."""
        return _SEALED.sub(self._opened, raw) if _BEGINNING in raw else raw

    def _opened(self, found: re.Match[bytes]) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        key_id = found[1].decode()
        key = self.keys.get(key_id)
        if key is None:
            return found[0]
        try:
            sealed = base64.urlsafe_b64decode(found[2])
            plain: bytes = _aes(key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(key_id)
            )
        except (InvalidTag, ValueError):  # damaged, or no base64 at all
            return found[0]
        return plain


def is_sealed(raw: bytes | None) -> bool:
    """Return whether JSON is one sealed payload."""
    return raw is not None and raw.startswith(_BEGINNING)


def check_open(raw: bytes | None, *, what: str) -> None:
    """Check that a payload is not sealed: its readers had the key.

    Raises:
        Misfit: It is; the message says under which key.
    """
    if raw is not None and is_sealed(raw):
        msg = f"{what} is sealed under the key {key_id_of(raw)}, which is not here"
        raise Misfit(msg)


def key_id_of(raw: bytes) -> str:
    """Return the id of the key that a payload is sealed under."""
    found = _SEALED.match(raw)
    return "of another form" if found is None else found[1].decode()


def canonical(raw: bytes) -> bytes:
    """Return JSON in the one form that all have which jsonb holds to be equal.

    Raises:
        InvalidArgument: It has none here, though PostgreSQL may hold it.
    """
    try:
        return msgspec.json.encode(_canonical(decode(raw, numbers="decimal")), order="sorted")
    except (ValueError, ArithmeticError, RecursionError) as e:
        msg = "under a key it cannot be sealed: it is nested too deeply, or has too great a number"
        raise InvalidArgument(msg, hint="ask for it without an idempotency key") from e


def _canonical(plain: Any) -> Any:  # noqa: ANN401 - JSON
    match plain:
        case dict():
            return ["object", {key: _canonical(value) for key, value in plain.items()}]
        case list():
            return ["array", *map(_canonical, plain)]
        case bool() | str() | None:
            return plain
        case _:
            return ["number", _number(plain)]


def _number(number: Any) -> str:  # noqa: ANN401 - an integer or a Decimal
    sign, digits, exponent = Decimal(number).as_tuple()
    text = "".join(map(str, digits))
    short = text.rstrip("0")
    return f"{'-' * sign}{short}e{int(exponent) + len(text) - len(short)}" if short else "0"


def _fault_of(key_id: str, key: bytes) -> str | None:
    if _KEY_ID.fullmatch(key_id) is None:
        return "an id has 1 to 64 letters, digits, - and _"
    if len(key) not in _KEY_BYTES:
        return f"it has {len(key)} bytes; AES takes 16, 24 or 32"
    return None


def _bound(key_id: str) -> bytes:
    return b"pgprog:sealed 1 " + key_id.encode()


@lru_cache(maxsize=64)
def _aes(key: bytes) -> Any:  # noqa: ANN401 - of an extra
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as e:
        msg = "encryption needs the package cryptography"
        raise ConfigError(msg, hint="pip install 'pgprog[encryption]'") from e
    return AESGCM(key)


def sealed_process(encryption: Encryption, raw: bytes, *, idempotency_key: str | None) -> bytes:
    """Return a process in the JSON of pgprog.get with its payloads sealed, to be put."""
    process: dict[str, Any] = _PARTS.decode(raw)
    for name in ("state", "metadata"):
        _seal_part(encryption, process, name)
    if process.get("history") is not None:
        events = _LIST.decode(process["history"])
        for event in events:
            for name in ("payload", "metadata"):
                _seal_part(encryption, event, name)
        process["history"] = events
    if idempotency_key is not None:
        plain = idempotency_key.encode() + b"\0" + canonical(raw)
        mark = hmac.new(encryption.fingerprint_key, plain, "sha256").hexdigest()
        process["pgprog:fingerprint"] = mark
    return msgspec.json.encode(process)


def _seal_part(encryption: Encryption, parts: dict[str, Any], name: str) -> None:
    part = parts.get(name)
    if part is not None and bytes(part) != b"null":
        sealed = encryption.seal(bytes(part).strip())
        parts[name] = msgspec.Raw(sealed or b"null")


_PARTS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
