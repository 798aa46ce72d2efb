"""What the demo needs before it starts: a server, the schema, its own table."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

from pgprog.demo import corpus
from pgprog.demo.tables import tables_sql
from pgprog.embedded import DevelopmentServer
from pgprog.embedded.home import make_home
from pgprog.errors import ConfigError
from pgprog.store.migrate import migrate
from pgprog.store.pool import connect_blocking

if TYPE_CHECKING:
    from pathlib import Path

_NEEDED = ("docx", "markdown_it", "pypdf", "selectolax", "watchfiles")
# Two demos may start on one new server.
_LOCK = "select pg_advisory_xact_lock(hashtextextended('pgprog.demo', 0))"


def check_extra() -> None:
    """Check that the packages are there with which the demo reads documents.

    Raises:
        ConfigError: One is not; the hint says how to get them.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        msg = f"the demo needs {', '.join(missing)}"
        raise ConfigError(msg, hint="pip install 'pgprog[demo]'")


def prepare(home: Path) -> str:
    """Start the development server below *home*, bring its schema up, and return its DSN.

    Repeating it changes nothing, and two at once are safe.

    Raises:
        PgprogError: The server did not start, or its schema is newer than this program.
    """
    make_home(home)
    server = DevelopmentServer(home)
    server.start()
    migrate(server.dsn)
    with (
        connect_blocking(server.dsn, name="pgprog demo") as connection,
        connection.transaction(),
    ):
        connection.execute("set local client_min_messages = warning")
        connection.execute(_LOCK)
        connection.execute(tables_sql().encode())
    return server.dsn


def prepare_corpus(home: Path) -> None:
    """Write the corpus below *home* unless it is there, and keep none of the memory that it takes.

    Written by this program it would stay at 130 MB, of which the engine needs nothing.
    """
    if not corpus.place(home).is_dir():
        subprocess.run([sys.executable, "-m", corpus.__name__, str(home)], check=True)
