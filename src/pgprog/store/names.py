"""Names of namespaces for whoever types one: at once, or not at all."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import make_conninfo

from pgprog.store.pool import conninfo

_PATIENCE = "set local statement_timeout = 500"  # a pooler refuses it as an option of the DSN


def namespaces_like(dsn: str, beginning: str) -> list[str]:
    """Return namespaces whose names begin so; none when the database does not answer."""
    try:
        place = make_conninfo(conninfo(dsn, name="pgprog completion"), connect_timeout="2")
        with psycopg.connect(place) as connection:
            connection.execute(_PATIENCE)
            rows = connection.execute(
                "select namespace from pgprog.namespaces where starts_with(namespace, %s)"
                " order by namespace limit 100",
                (beginning,),
            )
            return [name for (name,) in rows]
    except psycopg.Error:
        return []
