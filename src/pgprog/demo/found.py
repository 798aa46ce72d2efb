"""A file as it was found: what the process of its document is called and told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgprog.demo import content, formats
from pgprog.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

    from pgprog.demo.formats import Format

_ID_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One version of one file.

    *name* is its path below the directory that was searched, with that directory's own name.
    *format_* is None for what the demo cannot read.  *changed_ns* is when the file was last
    changed or renamed, in nanoseconds.
    """

    path: str
    name: str
    format_: Format | None
    size: int
    digest: str
    changed_ns: int

    @property
    def process_id(self) -> str:
        """The id of its process: the name, the content and the version, in at most 256 bytes.

        A changed file is another process; the same file found again is the same one.
        """
        version = hashlib.sha256(f"{self.path}\0{self.changed_ns}".encode()).hexdigest()
        token = f"@{self.digest[:8]}-{version[:8]}"
        return _shortened(self.name, limit=_ID_BYTES - len(token)) + token

    @property
    def args(self) -> dict[str, object]:
        """What the init of its process is told."""
        return {"path": self.path, "digest": self.digest, "changed_ns": self.changed_ns}


def look_at(path: Path, *, root: Path) -> Found | None:
    """Return the file at *path* as it is, None if it vanished, may not be read or is no file.

    None too where its name is no text in UTF-8, which no process id could hold.
    """
    try:
        str(path).encode()
        read = content.read(path)
    except (FileNotFoundError, PermanentError, UnicodeEncodeError):
        return None
    return Found(
        path=str(path),
        name=path.relative_to(root.parent).as_posix(),
        format_=formats.of_content(path.name, content.head(read.raw)),
        size=read.size,
        digest=read.digest,
        changed_ns=read.changed_ns,
    )


def _shortened(name: str, *, limit: int) -> str:
    """Return *name* in at most *limit* bytes: a long one keeps its end, behind a hash of it all."""
    encoded = name.encode()
    if len(encoded) <= limit:
        return name
    mark = f"{hashlib.sha256(encoded).hexdigest()[:8]}…"
    kept = encoded[-(limit - len(mark.encode())) :]
    return mark + kept.decode(errors="ignore")
