"""Every question of the bench can be asked; what it answers is for `make bench`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from bench.__main__ import QUESTIONS
from bench.asking import ask_all
from bench.question import TINY
from bench.report import table
from bench.scale import questions as scale_questions
from bench.scale import summary
from bench.scaled import fill_all
from bench.server import Arena, arena_on

if TYPE_CHECKING:
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
