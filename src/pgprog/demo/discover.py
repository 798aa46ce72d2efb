"""Finding documents: all below a directory, or a mixture of what the machine and we have."""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pgprog.demo import corpus, formats
from pgprog.demo.found import Found, look_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_DOCUMENTS = 1500

# Of one directory tree: enough for any documentation, and walked in a second.
_MOST_FILES = 60_000
_LEAST_BYTES = 64
# Text files of Python packages that nobody reads.
_NO_READING = frozenset(
    [
        "cmakelists.txt",
        "dependency_links.txt",
        "entry_points.txt",
        "namespace_packages.txt",
        "requires.txt",
        "sources.txt",
        "top_level.txt",
    ]
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that may become a document, and the directory that was searched for it."""

    path: Path
    root: Path


@dataclass(slots=True, kw_only=True)
class Selection:
    """The documents that were chosen, and what became of the other files.

    *duplicates* have the content of a chosen one.  *unreadable* are files that vanished, may not
    be read or have a name that is no text in UTF-8.
    """

    documents: list[Found] = field(default_factory=list)
    duplicates: int = 0
    unreadable: list[Path] = field(default_factory=list)


def everything_below(root: Path) -> Selection:
    """Return every file at or below *root* as a document, whatever it holds.

    Two files of the same content are two documents.
    """
    chosen = Selection()
    for candidate in files_below(root.resolve()):
        _choose(candidate, into=chosen)
    return chosen


def mixture(home: Path) -> Selection:
    """Return at least 1 000 documents that differ in content, and at most `MOST_DOCUMENTS`.

    They are of all formats in turns, as far as there are any: documentation of this machine, then
    the corpus, which is made below the directory *home*.  Its damaged files are always among them.
    """
    shipped = corpus.write_corpus(home)
    offered = itertools.chain(
        files_below(shipped / corpus.DAMAGED),
        _in_turns(
            documentation(machine_roots()),
            files_below(shipped / corpus.READERS),
        ),
    )
    return distinct(offered, most=MOST_DOCUMENTS)


def distinct(candidates: Iterable[Candidate], *, most: int) -> Selection:
    """Return the first of *candidates* that differ in content, at most *most* of them."""
    chosen = Selection()
    seen: set[str] = set()
    for candidate in candidates:
        if len(chosen.documents) == most:
            break
        _choose(candidate, into=chosen, besides=seen)
    return chosen


def documentation(roots: Iterable[Path]) -> Iterator[Candidate]:
    """Yield the files below *roots* whose names are those of documentation."""
    for root in roots:
        for candidate in itertools.islice(files_below(root), _MOST_FILES):
            if _is_documentation(candidate.path):
                yield candidate


def machine_roots() -> list[Path]:
    """Return where this machine keeps documentation, the directories that exist."""
    packages = [sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")]
    shared = Path(sys.base_prefix, "share", "doc")
    roots = [Path("/usr/share/doc"), Path("/usr/share/info"), shared, *map(Path, packages)]
    found = dict.fromkeys(root.resolve() for root in roots if root.is_dir())
    return list(found)


def files_below(root: Path) -> Iterator[Candidate]:
    """Yield every file at or below *root*, in the order of names.

    Hidden files and directories are passed by, and so are links: what they lead to is found where
    it is.  A directory that may not be read is as good as empty.
    """
    if not root.is_dir():
        yield Candidate(root, root)
        return
    for directory, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not is_hidden(name))
        for name in sorted(names):
            path = Path(directory, name)
            if not is_hidden(name) and not path.is_symlink() and path.is_file():
                yield Candidate(path, root)


def is_hidden(name: str) -> bool:
    """Return whether a file or directory of this name is passed by."""
    return name.startswith(".") or name == "__pycache__"


def _choose(candidate: Candidate, *, into: Selection, besides: set[str] | None = None) -> None:
    """Look at a file and put it where it belongs; *besides* are the digests that are taken."""
    found = look_at(candidate.path, root=candidate.root)
    if found is None:
        into.unreadable.append(candidate.path)
    elif besides is not None and found.digest in besides:
        into.duplicates += 1
    else:
        into.documents.append(found)
        if besides is not None:
            besides.add(found.digest)


def _in_turns(first: Iterable[Candidate], then: Iterable[Candidate]) -> Iterator[Candidate]:
    """Yield files in turns, one of each format that their names tell; *first* before *then*.

    Within a format *first* comes in an order that is random to us but the same at each run, so
    that a few of them are of many packages.
    """
    shelves: defaultdict[formats.Format | None, list[Candidate]] = defaultdict(list)
    shuffled = sorted(first, key=lambda candidate: zlib.crc32(bytes(candidate.path)))
    for candidate in itertools.chain(shuffled, then):
        shelves[formats.of_name(candidate.path.name)].append(candidate)
    for turn in itertools.zip_longest(*shelves.values()):
        yield from (candidate for candidate in turn if candidate is not None)


def _is_documentation(path: Path) -> bool:
    if formats.of_name(path.name) is None or path.name.lower() in _NO_READING:
        return False
    try:
        return path.stat().st_size >= _LEAST_BYTES
    except OSError:
        return False
