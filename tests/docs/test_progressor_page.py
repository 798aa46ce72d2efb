"""What the page for those who come from Progressor says is so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.docs.guide import DOCS, blocks

from pgprog import Engine, Namespace, errors
from pgprog.config import Config, NamespaceSettings
from pgprog.config.schema import hints_of, is_section
from pgprog.metrics.names import METRICS

if TYPE_CHECKING:
    import psycopg
    from tests.conftest import SessionFactory

PAGE = (DOCS / "from-progressor.md").read_text()
# The tables of Progressor that are read, with what it knows of two processes.
TABLES = """
create type process_status as enum ('running', 'error', 'init');
create table orders_processes (
  process_id varchar(256) primary key, status process_status not null, detail text, aux_state bytea,
  created_at timestamptz not null default now(), metadata jsonb,
  previous_status process_status not null,
  status_changed_at timestamptz not null);
create table orders_schedule (
  task_id bigint primary key, process_id varchar(256), task_type text, scheduled_time timestamptz);
create table orders_events (
  process_id varchar(256), task_id bigint not null, event_id smallint,
  timestamp timestamptz default now(), metadata jsonb, payload bytea not null,
  primary key (process_id, event_id));
insert into orders_processes values
  ('o-1', 'running', null, '{"due": "10"}', '2026-01-01', '{"format": 1}', 'init', '2026-01-01'),
  ('o-2', 'error', 'no paper', '{"due": "5"}', '2026-01-01', null, 'running', '2026-01-02'),
  ('o-3', 'init', null, null, '2026-01-01', null, 'init', '2026-01-01');
insert into orders_schedule values (1, 'o-1', 'timeout', '2046-01-01 00:00Z');
insert into orders_events values
  ('o-1', 7, 1, '2026-01-01', '{"format_version": 1}', '{"opened": "10"}'),
  ('o-1', 8, 2, '2026-01-02', null, '"reminded"');
"""


@pytest.fixture
def moved(fresh_db: str, session: SessionFactory) -> psycopg.Connection[Any]:
    """A database to which the page has moved the processes, twice."""
    connection = session(fresh_db)
    connection.execute(TABLES)
    with Engine(fresh_db, [Namespace("orders")]):
        pass
    [statement] = [text for language, text in blocks("from-progressor.md") if language == "sql"]
    for _ in range(2):
        connection.execute(statement.encode())
    return connection


@pytest.mark.slow  # a database and an engine of its own
def test_processes_of_progressor_are_moved_with_history_and_timers(
    moved: psycopg.Connection[Any],
) -> None:
    [[first]] = moved.execute("select pgprog.get('orders', 'o-1', 10)").fetchall()
    [[second]] = moved.execute("select pgprog.get('orders', 'o-2', 10)").fetchall()
    [[third]] = moved.execute("select pgprog.get('orders', 'o-3', 10)").fetchall()

    assert first["state"] == {"due": "10"}
    assert first["metadata"] == {"format": 1}
    assert first["timers"][""].startswith("2046-01-01")
    assert [event["payload"] for event in first["history"]] == [{"opened": "10"}, "reminded"]
    assert (second["status"], second["detail"]) == ("error", "no paper")
    assert third is None


def keys_of(class_: type, under: str = "") -> set[str]:
    found = set()
    for name, hint in hints_of(class_).items():
        if is_section(hint):
            found |= keys_of(hint, f"{under}{name}.")
        found.add(f"{under}{name}")
    return found


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_setting_of_the_page_is_one() -> None:
    rows = re.findall(r"^\| [^|]+\| ([^|]+) \|", section("Settings"), flags=re.MULTILINE)
    named = {key for row in rows for key in re.findall(r"`([\w.]+)`", row)}

    assert named
    assert named <= keys_of(Config) | keys_of(NamespaceSettings)


def test_every_error_of_the_page_has_its_code() -> None:
    found = re.findall(r"`(\w+)`, (UP\d{3})", PAGE)

    assert len(found) == 5
    assert [getattr(errors, name).sqlstate for name, _ in found] == [code for _, code in found]


def test_every_metric_of_the_page_is_one() -> None:
    found = re.findall(r"`(pgprog_\w+)` \|$", section("Metrics"), flags=re.MULTILINE)

    assert len(found) == 8
    assert set(found) <= set(METRICS)
