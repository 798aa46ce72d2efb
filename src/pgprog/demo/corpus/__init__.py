"""Documents for a machine that has none: readers made of our own notes, and damaged files.

`notes` holds original texts under CC0.  What is shipped is small; `write_corpus` makes a thousand
documents of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.demo.corpus import damaged, render
from pgprog.demo.corpus.readers import Reader, read_notes, readers

if TYPE_CHECKING:
    from collections.abc import Iterator

# How many documents of each format are made: at least a thousand in all.  A docx takes fifty times
# the time of any other.
COUNTS = {"md": 250, "html": 250, "txt": 240, "pdf": 200, "docx": 70, "rst": 60}

# Places inside the directory that `write_corpus` returns.
READERS = "readers"
DAMAGED = "damaged"

_SOURCES = Path(__file__).parent


def write_corpus(home: Path) -> Path:
    """Return the directory below *home* with the documents, which are made when it is not there.

    It takes a few seconds once for each version of the sources.  It is put in place whole, so a
    killed run leaves no half of one; of two runs at once the second waits for the first.
    """
    target = place(home)
    with _alone(home):
        if target.is_dir():
            return target
        for leftover in home.glob("corpus.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="corpus.", dir=home))
        _write_readers(fresh / READERS)
        _write_damaged(fresh / DAMAGED)
        fresh.chmod(0o755)
        fresh.rename(target)
    return target


def place(home: Path) -> Path:
    """Return where `write_corpus` puts the corpus of these sources, there or not."""
    return home / f"corpus-{_version()}"


def sample() -> Reader:
    """Return the reader that the damaged files were before the damage."""
    [whole] = readers(read_notes(_SOURCES / "notes"), kind="sample", count=1)
    return whole


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory, which the system lets go when the program is killed."""
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _write_readers(directory: Path) -> None:
    directory.mkdir()
    notes = read_notes(_SOURCES / "notes")
    for suffix, count in COUNTS.items():
        for number, reader in enumerate(readers(notes, kind=suffix, count=count), 1):
            document = render.BY_SUFFIX[suffix](reader)
            (directory / f"reader-{number:03}.{suffix}").write_bytes(document)


def _write_damaged(directory: Path) -> None:
    directory.mkdir()
    for name, content in damaged.files(sample()):
        (directory / name).write_bytes(content)


def _version() -> str:
    """Return a short name of what the documents are made from."""
    sources = sorted([*_SOURCES.glob("*.py"), *_SOURCES.glob("notes/*.md")])
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:8]
