"""The worker daemon: handlers that are imported, one worker or several, and their signals."""

from pgprog.daemon.handlers import check_namespaces, load_file, load_namespaces
from pgprog.daemon.link import Link
from pgprog.daemon.serve import serve
from pgprog.daemon.supervise import supervise

__all__ = ["Link", "check_namespaces", "load_file", "load_namespaces", "serve", "supervise"]
