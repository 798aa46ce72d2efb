"""A synchronous standby that stores nothing: python -m tests.stress.standby DSN.

It acknowledges whatever it receives, at once.  Stopped by a signal it acknowledges nothing, and
commits wait, visible to nobody, though the logical stream has told them.
"""

from __future__ import annotations

import select
import struct
import sys
import time

import psycopg

NAME = "stress_standby"


def main(dsn: str) -> None:
    """Follow, again and again."""
    while True:
        try:
            _follow(dsn)
        except psycopg.Error:
            time.sleep(0.05)


def _follow(dsn: str) -> None:
    with psycopg.connect(
        dsn, replication="true", application_name=NAME, autocommit=True, connect_timeout=5
    ) as connection:
        row = connection.execute("IDENTIFY_SYSTEM").fetchone()
        assert row is not None
        position = row[2] if isinstance(row[2], bytes) else row[2].encode()  # by the encoding
        connection.execute(b"START_REPLICATION PHYSICAL " + position)
        pgconn = connection.pgconn
        while True:
            size, data = pgconn.get_copy_data(1)
            if size < 0:
                return
            if not size:
                select.select([pgconn.socket], [], [], 0.2)
                pgconn.consume_input()
                continue
            kind, start = struct.unpack_from("!cQ", data)
            end = start + len(data) - 25 if kind == b"w" else start
            pgconn.put_copy_data(struct.pack("!cQQQqB", b"r", end, end, end, 0, 0))
            pgconn.flush()


if __name__ == "__main__":
    main(sys.argv[1])
