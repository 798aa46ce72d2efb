"""A pgbouncer in transaction mode, with the settings of deploy/pgbouncer, on a Unix socket."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgprog.embedded.account import find_account

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPLOYED = Path(__file__).parents[2] / "deploy" / "pgbouncer" / "pgbouncer.ini"
PORT = 6432
_SECONDS = 20
# Whoever the server of the tests lets in without a password may pass; roles come and go in tests.
_TRUSTING = {
    "auth_type": "trust",
    "auth_user": "postgres",
    "auth_query": "select $1, ''",
}


class Bouncer:
    """Pools connections to the server of *dsn*, whatever the database; a context manager.

    It is what deploy/pgbouncer/pgbouncer.ini says, but for its places, *settings* and, unless
    they say otherwise, passwords.
    """

    def __init__(self, dsn: str, *, settings: Mapping[str, str] | None = None) -> None:
        self._server = conninfo_to_dict(dsn)
        self._settings = _TRUSTING if settings is None else settings
        self._account = find_account()
        self._process: subprocess.Popen[bytes] | None = None
        self.place = Path()

    @property
    def log(self) -> str:
        """What it has said."""
        return (self.place / "pgbouncer.log").read_text()

    def dsn(self, direct: str) -> str:
        """Return the way to the database of *direct* through the pooler."""
        return make_conninfo(direct, host=str(self.place), port=PORT)

    def transactions(self) -> int:
        """Return how many transactions have gone through it."""
        return sum(row["total_xact_count"] for row in self._show("stats"))

    def _show(self, what: str) -> list[dict[str, Any]]:
        console = make_conninfo("", host=str(self.place), port=PORT, dbname="pgbouncer")
        with psycopg.connect(
            console,
            user=self._server.get("user") or "postgres",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,  # the console takes simple queries only
            row_factory=psycopg.rows.dict_row,
        ) as connection:
            return connection.execute(f"show {what}".encode()).fetchall()

    def __enter__(self) -> Self:
        self.place = Path(tempfile.mkdtemp(prefix="pgprog-pooler-", dir="/tmp"))
        (self.place / "userlist.txt").write_text('"postgres" "postgres"\n"pgprog" "pgprog"\n')
        (self.place / "pgbouncer.ini").write_text(self._configuration())
        os.chown(self.place, self._account.owner, -1)
        with (self.place / "out").open("wb") as out:
            self._process = subprocess.Popen(
                ["pgbouncer", str(self.place / "pgbouncer.ini")],
                cwd="/", stdout=out, stderr=out,
                user=self._account.uid, group=self._account.gid,
                extra_groups=self._account.extra_groups,
            )  # fmt: skip
        end = time.monotonic() + _SECONDS
        while not self._listens():
            assert self._process.poll() is None, (self.place / "out").read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)  # at once, and cuts who is connected
            self._process.wait(_SECONDS)
        shutil.rmtree(self.place, ignore_errors=True)

    def _listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as door:
            return door.connect_ex(str(self.place / f".s.PGSQL.{PORT}")) == 0

    def _configuration(self) -> str:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(DEPLOYED)
        where = {"host": self._server["host"], "port": self._server.get("port") or "5432"}
        parser["databases"] = {"*": " ".join(f"{key}={value}" for key, value in where.items())}
        places = {
            "listen_addr": "", "unix_socket_dir": str(self.place),
            "auth_file": str(self.place / "userlist.txt"),
            "logfile": str(self.place / "pgbouncer.log"),
            "stats_users": "postgres, pgprog",
        }  # fmt: skip
        parser["pgbouncer"].update({**places, **self._settings})
        lines: list[str] = []
        for section in parser.sections():
            lines += [f"[{section}]", *(f"{k} = {v}" for k, v in parser[section].items())]
        return "\n".join([*lines, ""])
