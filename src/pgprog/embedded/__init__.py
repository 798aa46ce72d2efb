"""A private PostgreSQL server, for people and test suites that have none.

`EmbeddedPostgres` lives and dies with the program that starts it; `DevelopmentServer` stays until
it is stopped, and keeps its data.  Both listen on a Unix socket only, in a directory that nobody
else can enter, so that they need no passwords.
"""

from pgprog.embedded.development import DevelopmentServer, ServerStatus
from pgprog.embedded.private import EmbeddedPostgres

__all__ = ["DevelopmentServer", "EmbeddedPostgres", "ServerStatus"]
