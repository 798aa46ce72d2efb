"""The real schema with the methods of the twin, on one connection and a clock that is told."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg

from pgprog.codec import encode
from pgprog.errors import for_sqlstate
from pgprog.store import completions
from pgprog.store.packing import bigints, integers, jsonbs, register, texts
from pgprog.store.rows import Claimed, Claims, Position, Submitted
from pgprog.store.starting import packed, submitted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta

    from pgprog.config import NamespaceSettings
    from pgprog.store.rows import Completed, Completion, RawRequest


_CLOCKS = """
create or replace function pgprog_engine._now() returns timestamptz language sql stable
  return current_setting('twin.now')::timestamptz;
create or replace function pgprog_engine._clock() returns timestamptz language sql volatile
  return current_setting('twin.now')::timestamptz;
"""
_TABLES = [
    "queue",
    "timers",
    "workers",
    "processes",
    "ended_processes",
    "removals",
    "events",
    "tasks",
    "attempts",
    "keys",
    "namespaces",
    "namespace_settings",
    "queue_sizes",
    "measurements",
    "outbox",
]
_EMPTY = "; ".join(f"delete from pgprog_data.{table}" for table in _TABLES)
_TRUNCATE = "truncate " + ", ".join(f"pgprog_data.{table}" for table in _TABLES)
_TRUNCATE_EVERY = 25

_REQUEST: dict[str, LiteralString] = {
    "init": "select pgprog.init(%s, %s, %s::jsonb, %s, %s, %s::jsonb, %s, %s)",
    "call": "select pgprog.call(%s, %s, %s::jsonb, %s, %s, %s::jsonb, %s, %s)",
    "notify": "select pgprog.notify(%s, %s, %s::jsonb, %s, %s, %s::jsonb, %s, %s)",
    "repair": "select pgprog.repair(%s, %s, %s::jsonb, %s, %s, %s::jsonb, %s)",
}


class Database:
    """One database; every call is a transaction of its own."""

    def __init__(self, dsn: str, *, now: datetime) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        register(self.connection)
        self.connection.execute(_CLOCKS)
        self.advance_to(now)
        self._value("select pgprog_engine.maintain()")  # partitions around that time
        self._emptied = 0

    def close(self) -> None:
        self.connection.close()

    def empty(self) -> None:
        self._emptied += 1
        statement = _EMPTY if self._emptied % _TRUNCATE_EVERY else _TRUNCATE
        self.connection.execute(statement.encode())

    def advance_to(self, instant: datetime) -> None:
        self.connection.execute("select set_config('twin.now', %s, false)", (instant.isoformat(),))

    def create_namespace(self, namespace: str, settings: NamespaceSettings) -> None:
        raw = encode(settings.to_json(), field="settings", limit=1 << 20)
        self._value(
            "select pgprog_engine._create_namespace(%s, %s::jsonb)", namespace, raw.decode()
        )

    def submit(self, request: RawRequest) -> int:
        values = [
            request.namespace, request.process_id, _text(request.args), request.name,
            request.idempotency_key, _text(request.context), request.priority, request.run_at,
        ]  # fmt: skip
        count = 7 if request.type == "repair" else 8
        return int(self._value(_REQUEST[request.type], *values[:count]))

    def start(self, worker_id: int, max_starts: int, many: Sequence[RawRequest]) -> list[Submitted]:
        columns = list(zip(*many, strict=True))
        rows = self._rows(
            "select * from pgprog_engine.start(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            worker_id, max_starts, *packed(columns),
        )  # fmt: skip
        return [submitted(request, row) for request, row in zip(many, rows, strict=True)]

    def submit_many(self, many: Sequence[RawRequest]) -> list[Submitted]:
        columns = list(zip(*many, strict=True))
        rows = self._rows(
            "select * from pgprog.submit_many(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *packed(columns),
        )
        return [Submitted(row[1], row[2], row[3], None) for row in rows]

    def simple_repair(self, namespace: str, process_id: str, key: str | None) -> int | None:
        task_id = self._value("select pgprog.simple_repair(%s, %s, %s)", namespace, process_id, key)
        return None if task_id is None else int(task_id)

    def put(self, process: Mapping[str, Any], key: str | None) -> int:
        raw = encode(process, field="process", limit=1 << 28)
        return int(self._value("select pgprog.put(%s::jsonb, %s)", raw.decode(), key))

    def get(self, namespace: str, process_id: str, max_events: int) -> bytes | None:
        raw = self._value("select pgprog.get(%s, %s, %s)", namespace, process_id, max_events)
        return None if raw is None else bytes(raw)

    def remove(self, namespace: str, process_id: str, version: int | None) -> bool:
        return bool(self._value("select pgprog.remove(%s, %s, %s)", namespace, process_id, version))

    def cancel(self, task_id: int) -> bool:
        return bool(self._value("select pgprog.cancel(%s)", task_id))

    def pause(self, namespace: str, reason: str | None) -> bool:
        return bool(self._value("select pgprog.pause(%s, %s)", namespace, reason))

    def resume(self, namespace: str) -> bool:
        return bool(self._value("select pgprog.resume(%s)", namespace))

    def register_worker(
        self, name: str, namespaces: Sequence[str], lease: timedelta, reads: int
    ) -> int:
        settings = jsonbs([b"{}"] * len(namespaces))
        versions = integers([reads] * len(namespaces))
        statement = "select pgprog_engine.register_worker(%s, %s, %s, %s, %s)"
        return int(self._value(statement, name, texts(namespaces), settings, lease, versions))

    def renew_worker(
        self, worker_id: int, lease: timedelta, begun: Iterable[int]
    ) -> list[tuple[int, int]]:
        statement = "select * from pgprog_engine.renew_worker(%s, %s, %s)"
        return [(t, c) for t, c in self._rows(statement, worker_id, lease, bigints(list(begun)))]

    def collect_zombies(self, worker_id: int | None, renewals: int | None) -> int:
        return int(self._value("select pgprog_engine.collect_zombies(%s, %s)", worker_id, renewals))

    def deregister_worker(self, worker_id: int) -> int:
        return int(self._value("select pgprog_engine.deregister_worker(%s)", worker_id))

    def hand_back(self, claims: Sequence[tuple[int, int]]) -> int:
        task_ids, claim_ids = zip(*claims, strict=True)
        statement = "select pgprog_engine.hand_back(%s, %s)"
        return int(self._value(statement, bigints(task_ids), bigints(claim_ids)))

    def claim(self, worker_id: int, max_tasks: int, since: Position | None = None) -> Claims:
        statement = "select * from pgprog_engine.claim(%s, %s, since => %s, since_task => %s)"
        *rows, last = self._rows(statement, worker_id, max_tasks, *(since or (None, 0)))
        rank = last[Claimed._fields.index("created_at")]
        task_id = last[Claimed._fields.index("claim_id")]
        seen = since if rank is None else Position(rank, task_id)
        return Claims([Claimed(*row[:-1]) for row in rows], last[-1] / 1_000_000, seen=seen)

    def first_rank(self, namespaces: Sequence[str], since: Position) -> datetime | None:
        statement = "select rank from pgprog_engine.first_rank(%s, %s, %s)"
        rank: datetime | None = self._value(statement, texts(namespaces), *since)
        return rank

    def complete(
        self, worker_id: int, batch: Sequence[Completion], chains: Sequence[bool]
    ) -> list[Completed]:
        parameters = completions.parameters(worker_id, batch, chains=chains)
        return completions.results(batch, self._rows(completions.COMPLETE, *parameters))

    def measure_queues(self) -> None:
        assert self._value("select pgprog_engine.measure_queues('0 s')")

    def maintain(self) -> None:
        assert self._value("select pgprog_engine.maintain()")

    def ended_among(self, task_ids: Sequence[int]) -> set[int]:
        rows = self._rows("select task_id from pgprog.results(%s)", bigints(task_ids))
        return {row[0] for row in rows}

    def snapshot(self, statement: LiteralString) -> bytes:
        return bytes(self._value(statement))

    def _value(self, statement: LiteralString, *values: Any) -> Any:
        [[value]] = self._rows(statement, *values)
        return value

    def _rows(self, statement: LiteralString, *values: Any) -> list[Any]:
        with _translated():
            return self.connection.execute(statement, values, binary=True).fetchall()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as e:
        error = for_sqlstate(e.sqlstate)
        if error is None or e.sqlstate is None:
            raise
        raise error(str(e)) from e


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()
