"""How many tasks a second are queued through SQL and by the client, one by one and many at once?

Nobody works meanwhile.  Beside them the ceiling: rows of the plain design's queue, a thousand in a
statement; and pgbench's inserts, which are asked with the other questions to pgbench.
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Final, LiteralString

import psycopg

from bench.measure import Meter
from bench.pgbench import run_script
from bench.plain import load_queue, make
from bench.question import Question
from bench.workload import ARGS, NAMESPACE, NOTE, load, process_ids
from pgprog import AsyncClient
from pgprog.model import Request
from pgprog.store.packing import register, texts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.question import Sample, Sizes
    from bench.server import Arena

    Ask = Callable[[AsyncClient, Sizes], Awaitable[int]]

_BATCH: Final = 1000
_ONE_CALL = (
    "\\set number random(0, {last})\n"
    "select pgprog.call('{namespace}', 'counter-' || lpad(:number::text, 8, '0'), '{args}',"
    " name => 'count');\n"
)
_MANY_CALLS = (
    "select count(pgprog.call(%s, x, %s::text::jsonb, name => 'count'))"
    " from unnest(%s::text[]) as x"
)
_SUBMIT_MANY = (
    "select count(*) filter (where s.outcome = 'queued')"
    " from (select array_agg('call'::text) as types, array_agg(%s::text) as namespaces,"
    "   array_agg(x) as ids, array_agg(%s::text::jsonb) as argss,"
    "   array_agg('count'::text) as names,"
    "   array_agg(0) as priorities, array_agg(null::text) as texts,"
    "   array_agg(null::jsonb) as contexts, array_agg(null::timestamptz) as run_ats"
    "   from unnest(%s::text[]) as x) as v,"
    " pgprog.submit_many(v.types, v.namespaces, v.ids, v.argss, v.names, v.texts, v.contexts,"
    "   v.priorities, v.run_ats) as s"
)
_WITH_KEYS = _SUBMIT_MANY.replace("array_agg(null::text) as texts", "array_agg(x) as texts")


def _ask_sql(arena: Arena, sizes: Sizes, *, clients: int) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        _allow_many(dsn)
        script = _ONE_CALL.format(
            last=sizes.many_processes - 1, namespace=NAMESPACE, args=ARGS.decode()
        )
        return run_script(dsn, script, clients=clients, seconds=sizes.seconds)


def _ask_sql_many(arena: Arena, sizes: Sizes, *, statement: LiteralString) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        with psycopg.connect(dsn, autocommit=True) as connection:
            register(connection)
            ids = process_ids(sizes.many_processes)
            meter = Meter(dsn)
            with meter:
                for start in range(0, len(ids), _BATCH):
                    values = (NAMESPACE, ARGS.decode(), texts(ids[start : start + _BATCH]))
                    connection.execute(statement, values, binary=True)
        return meter.sample(len(ids))


def _ask_ceiling(arena: Arena, sizes: Sizes) -> Sample:
    with arena.empty_database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        make(connection)
        ids = process_ids(sizes.many_processes)
        meter = Meter(dsn)
        with meter:
            for start in range(0, len(ids), _BATCH):
                load_queue(connection, ids[start : start + _BATCH])
        return meter.sample(len(ids))


def _ask_client(arena: Arena, sizes: Sizes, *, ask: Ask) -> Sample:
    with arena.database() as dsn:
        load(dsn, processes=sizes.many_processes)
        _allow_many(dsn)
        return asyncio.run(_by_client(dsn, sizes, ask=ask))


async def _by_client(dsn: str, sizes: Sizes, *, ask: Ask) -> Sample:
    async with AsyncClient(dsn) as client:
        meter = Meter(dsn)
        with meter:
            count = await ask(client, sizes)
        return meter.sample(count)


async def _one_by_one(client: AsyncClient, sizes: Sizes, *, callers: int) -> int:
    """Queue for some seconds, each caller one after another, and each at least once."""
    ids = process_ids(sizes.many_processes)
    until = time.perf_counter() + sizes.seconds

    async def queue(number: int) -> int:
        count = 0
        while not count or time.perf_counter() < until:
            process_id = ids[(number + count * callers) % len(ids)]
            await client.submit("call", NAMESPACE, process_id, {"note": NOTE}, name="count")
            count += 1
        return count

    return sum(await asyncio.gather(*(queue(number) for number in range(callers))))


async def _many(client: AsyncClient, sizes: Sizes) -> int:
    ids = process_ids(sizes.many_processes)
    await client.submit_many(
        Request("call", NAMESPACE, process_id, {"note": NOTE}, name="count") for process_id in ids
    )
    return len(ids)


def _allow_many(dsn: str) -> None:
    """Let the queue be as long as it gets: nobody drains it."""
    with psycopg.connect(dsn) as connection:
        connection.execute("update pgprog_data.namespaces set max_queue = 1000000000")


QUESTIONS = (
    Question("ceiling: plain queue rows, 1000 a statement", "rows", _ask_ceiling),
    *(
        Question(
            f"pgprog.call in SQL, {clients} clients",
            "calls",
            functools.partial(_ask_sql, clients=clients),
        )
        for clients in (1, 32)
    ),
    *(
        Question(
            f"pgprog.{name} in SQL, 1000 a statement",
            "calls",
            functools.partial(_ask_sql_many, statement=statement),
        )
        for name, statement in (("call", _MANY_CALLS), ("submit_many", _SUBMIT_MANY))
    ),
    Question(
        "pgprog.submit_many in SQL, 1000 a statement, with keys",
        "calls",
        functools.partial(_ask_sql_many, statement=_WITH_KEYS),
    ),
    *(
        Question(
            f"client.submit, {callers} callers",
            "calls",
            functools.partial(_ask_client, ask=functools.partial(_one_by_one, callers=callers)),
        )
        for callers in (1, 200)
    ),
    Question("client.submit_many", "calls", functools.partial(_ask_client, ask=_many)),
)
