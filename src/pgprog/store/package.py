"""What the files of this package say of the schema, for a look at a database that may differ."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from pgprog.store.migrate import functions, migrations, publication

if TYPE_CHECKING:
    from collections.abc import Mapping

_FUNCTION = re.compile(
    r"^create or replace function (?P<name>pgprog(?:_engine)?\.\w+)\(.*?\bas \$\$(?P<body>.*?)\$\$",
    re.DOTALL | re.MULTILINE,
)
_INDEX = re.compile(r"^create (?:unique )?index (?P<name>\w+) on [^;]*;", re.MULTILINE)


def digests_of_files() -> Mapping[str, str]:
    """Return the digest of each file that a migration applies, by its name."""
    return {each.name: each.sha256.hex() for each in (*migrations(), *functions(), publication())}


def digests_of_bodies() -> Mapping[str, str]:
    """Return the digest of each function's body as pg_proc.prosrc has it.

    Functions of one expression are left out: PostgreSQL keeps those parsed, not as they were typed.
    """
    found = (_FUNCTION.search(each.text.decode()) for each in functions())
    return {
        match["name"]: hashlib.sha256(match["body"].encode()).hexdigest()
        for match in found
        if match is not None
    }


def indexes() -> Mapping[str, str]:
    """Return the statement that makes each index, by its name."""
    text = "\n".join(each.text.decode() for each in migrations())
    return {match["name"]: match[0] for match in _INDEX.finditer(text)}
