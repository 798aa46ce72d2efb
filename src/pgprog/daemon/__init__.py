"""The worker daemon: handlers that are imported, one worker, and its signals."""

from pgprog.daemon.handlers import load_file, load_namespaces
from pgprog.daemon.serve import serve

__all__ = ["load_file", "load_namespaces", "serve"]
