"""Databases that are made for a test and dropped after it."""

from __future__ import annotations

from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgprog.store.pool import connect_blocking

_NAME = "pgprog testing"


def create_database(dsn: str, name: str, *, template: str = "template1") -> str:
    """Make a database on the server of *dsn*, a copy of *template*; return its DSN.

    Nobody may be connected to the template meanwhile.
    """
    statement = sql.SQL("create database {} template {}")
    with connect_blocking(dsn, name=_NAME) as connection:
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
    return make_conninfo(dsn, dbname=name)


def drop_database(dsn: str, name: str) -> None:
    """Drop a database, and cut off who is connected to it; repeating it is harmless."""
    statement = sql.SQL("drop database if exists {} with (force)")
    with connect_blocking(dsn, name=_NAME) as connection:
        connection.execute(statement.format(sql.Identifier(name)))
