"""Zip archives that are the same whenever they are made."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def pack(parts: Mapping[str, bytes]) -> bytes:
    """Return an archive of *parts* by their names, in their order, all of them of 1980."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def unpack(whole: bytes) -> dict[str, bytes]:
    """Return the parts of an archive, in their order."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
