"""The table that the handlers of the demo write."""

from __future__ import annotations

from pathlib import Path


def tables_sql() -> str:
    """Return the statements that make the schema demo; repeating them changes nothing.

    Run them in one transaction, by a role that may create schemas.
    """
    return Path(__file__).with_name("tables.sql").read_text(encoding="utf-8")
