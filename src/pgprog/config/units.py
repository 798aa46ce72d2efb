"""Durations, sizes and addresses as people write them: ``5s``, ``256MiB``, ``localhost:9100``."""

import re
from datetime import timedelta

_DURATION_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
_SIZE_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}

_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(d|h|ms|m|us|s)", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+", re.ASCII)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/]*):(\d{1,5})", re.ASCII)
_SIZE = re.compile(r"(\d+)(GiB|MiB|KiB|B)", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Return the duration that *text* says, a sum of numbers each with its unit.

    Raises:
        ValueError: The text is no duration, or a longer one than a timedelta holds.
    """
    if _DURATION.fullmatch(text) is None:
        msg = f"{text!r} is not a duration such as 10ms, 5s, 1h30m or 30d"
        raise ValueError(msg)
    try:
        parts = _DURATION_PART.findall(text)
        return sum((_DURATION_UNITS[unit] * float(n) for n, unit in parts), timedelta())
    except OverflowError as e:
        msg = f"{text!r} is too long a duration"
        raise ValueError(msg) from e


def format_duration(duration: timedelta) -> str:
    """Return *duration* as a whole number of the greatest unit that divides it.

    PostgreSQL reads the same text as an interval.
    """
    if not duration:
        return "0s"
    unit, size = next((u, s) for u, s in _DURATION_UNITS.items() if not duration % s)
    return f"{duration // size}{unit}"


def parse_size(text: str) -> int:
    """Return the number of bytes that *text* says.

    Raises:
        ValueError: The text is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        msg = f"{text!r} is not a size such as 512B, 64KiB or 256MiB"
        raise ValueError(msg)
    return int(match[1]) * _SIZE_UNITS[match[2]]


def format_size(size: int) -> str:
    """Return *size* bytes as a whole number of the greatest unit that divides it."""
    if not size:
        return "0B"
    unit, factor = next((u, f) for u, f in _SIZE_UNITS.items() if not size % f)
    return f"{size // factor}{unit}"


def parse_address(text: str) -> tuple[str | None, int]:
    """Return host and port of *text*; the host is None for every address of the machine.

    Raises:
        ValueError: The text is no address.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[2]) > 65535:
        msg = f"{text!r} is not an address such as 127.0.0.1:9100, [::1]:9100 or :9100"
        raise ValueError(msg)
    return match[1].strip("[]") or None, int(match[2])
