"""The guide to logs and traces: its configuration, its programs and its SQL do what it says."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from pgprog import Engine, logs
from pgprog.config import LogConfig, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

GUIDE = (Path(__file__).parents[2] / "docs/how-to/observability.md").read_text()


def block(kind: str, number: int = 0) -> str:
    """Return a block of the guide."""
    blocks: list[str] = re.findall(rf"^```{kind}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    return blocks[number]


def context() -> Any:
    """Return the context that the guide gives in SQL."""
    [text] = re.findall(r"context => '(.*?)'\)", block("sql"), re.DOTALL)
    return json.loads(text)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("pgprog")
    before = list(root.handlers), ours.level
    yield io.StringIO()
    root.handlers, ours.level = before
    structlog.reset_defaults()


def test_the_configuration_is_one(tmp_path: Path) -> None:
    (tmp_path / "pgprog.yaml").write_text(block("yaml"))

    assert load(tmp_path / "pgprog.yaml", environ={}).log == LogConfig(format="json", level="info")


def test_a_handler_of_the_guide_writes_the_line_of_the_guide(
    db: str, session: Any, stream: io.StringIO
) -> None:
    shop: dict[str, Any] = {}
    exec(block("python"), shop)
    sql: psycopg.Connection[Any] = session()
    logs.configure(format="json", stream=stream)
    with Engine(db, [shop["orders"]]) as engine:
        task = engine.submit("init", "orders", "o-1", context=context())
        task.wait()
        sql.execute(block("sql"))
        [_, called] = engine.trace("orders", "o-1")

    written = [json.loads(line) for line in stream.getvalue().splitlines()]
    [line] = [each for each in written if each.get("task_id") == task.task_id]
    shown = json.loads(block("json"))
    varying = {"at", "task_id", "worker_id"}
    assert called.context == context()
    assert {**shown, **dict.fromkeys(varying)} == {**line, **dict.fromkeys(varying)}


def test_a_request_is_sent_with_what_its_headers_say() -> None:
    program: dict[str, Any] = {}
    exec(block("python", 2), program)
    told: list[Any] = []

    class Client:
        def call(self, *args: Any, **options: Any) -> None:
            told.append((program["pgprog"].correlation_id(), program["pgprog"].traceparent()))

    trace = json.loads(re.findall(r"context => '(.*?)'\);", block("sql"), re.DOTALL)[0])[
        "traceparent"
    ]
    program["handle"](Client(), {"x-request-id": "req-1", "traceparent": trace})
    program["handle"](Client(), {})

    assert told == [("req-1", trace), (None, None)]


def test_a_host_of_the_guide_shows_the_fields(stream: io.StringIO) -> None:
    before = list(logging.getLogger().handlers)
    program: dict[str, Any] = {}
    exec(block("python", 1), program)
    program["handler"].setStream(stream)

    logs.get("pgprog.x").warning("seen", task_id=7)

    assert stream.getvalue() == "WARNING seen {'task_id': 7}\n"
    assert len(logging.getLogger().handlers) == len(before) + 1
