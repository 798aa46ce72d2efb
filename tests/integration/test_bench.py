"""Every question of the bench can be asked; what it answers is for `make bench`."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from bench import profiling
from bench.__main__ import QUESTIONS
from bench.asking import ask_all
from bench.measure import Meter
from bench.question import TINY
from bench.report import table
from bench.scale import questions as scale_questions
from bench.scale import summary
from bench.scaled import fill_all
from bench.server import Arena, arena_on
from pgprog.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.question import Question

# Slow: each starts workers, programs or a database of its own.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def arena() -> Arena:
    return arena_on(os.environ["PGPROG_TEST_DSN"])


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_question_has_an_answer(arena: Arena, question: Question) -> None:
    rounds = ask_all(arena, [question], sizes=TINY, rounds=1)

    assert rounds[question.name][0].count > 0
    assert question.name in table(rounds)


def test_a_small_scale_has_its_answers(arena: Arena) -> None:
    scale = fill_all(arena, size=0.0, hot=TINY.tasks).on(arena)
    rounds = ask_all(arena, scale_questions(scale), sizes=TINY, rounds=1)

    assert all(len(samples) == 1 for samples in rounds.values())
    assert "1.00 (1.00 to 1.00) as fast" in summary(rounds)


@pytest.fixture
def counting() -> Iterator[Arena]:
    """An arena of its own: only a server that is started with it can count statements."""
    library = {"shared_preload_libraries": "pg_stat_statements"}
    with EmbeddedPostgres(durable=False, settings=library) as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("create extension pg_stat_statements")
        yield arena_on(server.dsn)


def test_a_profile_tells_what_the_statements_of_a_question_take(
    counting: Arena, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "drain, one task a process"
    monkeypatch.setattr(sys, "argv", ["profiling", question, "--tasks", str(TINY.tasks)])
    monkeypatch.setattr(profiling, "durable_server", lambda: contextlib.nullcontext(counting))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)  # neither perf nor py-spy
    monkeypatch.setattr(Meter, "around", Meter.around)  # which it leaves changed, as a program may
    monkeypatch.setattr("pgprog.logs.configure", lambda **_: None)

    profiling.main()

    title, _, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("## Statements, µs a task (")
    assert any(" top " in line and "pgprog_engine.claim" in line for line in lines)
    assert any(" top " not in line and "pgprog_data.queue" in line for line in lines)
