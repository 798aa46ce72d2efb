"""How much of the database a statement reads."""

from __future__ import annotations

from typing import Any


def blocks_of(connection: Any, statement: str, values: Any = ()) -> int:
    """Run a statement; return the blocks of shared buffers that it read."""
    explain = f"explain (analyze, buffers, timing off, format json) {statement}"
    [[[found]]] = connection.execute(explain, values).fetchall()
    plan = found["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
