"""Requests in Django's own transaction, and a client for the process that serves its views.

The database's engine is ``django.db.backends.postgresql`` with psycopg 3.
"""

from __future__ import annotations

import atexit
import os
import threading

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from pgprog.client import Client
from pgprog.client.bound import Bound, bound_to

_lock = threading.Lock()
_clients: dict[int, Client] = {}


def bind(using: str = DEFAULT_DB_ALIAS) -> Bound:
    """Return what submits on Django's connection of this thread to the database *using*.

    Inside ``transaction.atomic()`` a request is made when that commits; without it at once.  A
    refusal fails the transaction, as any error of SQL does, so catch it around an ``atomic()`` of
    its own.  With ``encryption`` in ``settings.PGPROG`` args are sealed, as those of `client`.

    Raises:
        TypeError: The driver is not psycopg 3.
    """
    connection = connections[using]
    connection.ensure_connection()
    encryption = getattr(settings, "PGPROG", {}).get("encryption")
    bound = bound_to(connection.connection, encryption=encryption)
    if not isinstance(bound, Bound):
        msg = "Django has an asynchronous connection"
        raise TypeError(msg)
    return bound


def client() -> Client:
    """Return the client of this process, which is opened by its first use.

    ``settings.PGPROG`` has its arguments: ``{"dsn": …}``.  A process that a server forks off gets
    one of its own.

    Raises:
        ConfigError, SchemaMismatch, StoreUnavailable: It cannot be opened.
    """
    with _lock:
        if (pid := os.getpid()) not in _clients:
            opened = Client(**settings.PGPROG)
            opened.__enter__()
            _clients[pid] = opened
            atexit.register(close)
        return _clients[pid]


def close() -> None:
    """Close the client of this process, if it is open: at exit, and between tests."""
    with _lock:
        if opened := _clients.pop(os.getpid(), None):
            opened.__exit__(None, None, None)
