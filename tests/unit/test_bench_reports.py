"""What the benchmarks make of samples: tables, ratios and intervals; no sample is taken here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench import compare, report
from bench import table as wanted
from bench.__main__ import QUESTIONS
from bench.asking import chosen
from bench.peers.known import OTHERS, PGPROG, Peer
from bench.peers.shared import table as beside
from bench.pgbench import COMMIT, YARDSTICK
from bench.question import Question, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def sample(rate: float, *, round: int = 0, figures: Mapping[str, float] | None = None) -> Sample:  # noqa: A002 - its name
    return Sample(
        count=100,
        seconds=100 / rate,
        postgres_cpu=0.1,
        client_cpu=0.1,
        wal_bytes=1000,
        load=0,
        figures=figures or {},
        round=round,
    )


def cells(table: str, begin: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return [[cell.strip(" |") for cell in line] for line in lines if line[0] == begin]


def test_ratios_are_taken_between_samples_of_one_round() -> None:
    rounds = {
        YARDSTICK: [sample(100, round=0), sample(400, round=2)],
        "drain": [sample(1000, round=1), sample(1200, round=2)],
    }

    [line] = cells(report.table(rounds), "drain")

    assert line[1:3] == ["1100 (1000 to 1200)", "3.00 (3.00 to 3.00)"]


def test_latencies_are_shown_in_commits_of_their_round() -> None:
    rounds = {COMMIT: [sample(500)], "call": [sample(10, figures={"call ms": 5.0, "p99 ms": 9.0})]}

    [line] = cells(report.table(rounds), "call")

    assert line[-1] == "call ms 5.0, p99 ms 9.0, call 2.5 (2.5 to 2.5) commits"


def test_a_question_without_an_answer_has_no_line() -> None:
    assert "silent" not in report.table({"silent": []})


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    rounds = {"drain": [sample(1000, round=3, figures={"p50 ms": 1.0})]}

    report.write(tmp_path / "a.json", rounds, machine={})

    assert report.read(tmp_path / "a.json") == rounds


def test_samples_without_a_round_are_numbered(tmp_path: Path) -> None:
    report.write(tmp_path / "a.json", {"drain": [sample(1), sample(2)]}, machine={})
    raw = json.loads((tmp_path / "a.json").read_text())
    for each in raw["questions"]["drain"]:
        del each["round"]
    (tmp_path / "a.json").write_text(json.dumps(raw))

    assert [each.round for each in report.read(tmp_path / "a.json")["drain"]] == [0, 1]


def test_peers_stand_beside_pgprog_by_rate_or_by_figures_of_which_less_is_better() -> None:
    rounds = {
        "drain [pgprog]": [sample(1000)],
        "drain [other]": [sample(500)],
        "start [pgprog]": [sample(1, figures={"p50 ms": 2.0})],
        "start [other]": [sample(1, figures={"p50 ms": 5.0})],
        "drain [silent]": [],
        "another": [sample(1)],
    }

    table = beside(rounds, {"start": ("p50 ms",), "drain": ()})

    assert [line[1:] for line in cells(table, "drain")] == [
        ["pgprog", "a second", "1000 (1000 to 1000)"],
        ["other", "a second", "500 (500 to 500)", "2.00 (2.00 to 2.00)"],
        ["silent", "a second", "no answer", "no answer"],
    ]
    assert cells(table, "start")[1][3:] == ["5.00 (5.00 to 5.00)", "2.50 (2.50 to 2.50)"]
    assert "another" not in table


def test_an_interval_holds_the_ratio_and_is_the_same_each_time() -> None:
    before = [100.0 + 1.7 * number % 13 for number in range(20)]
    after = [200.0 + 2.9 * number % 31 for number in range(20)]

    found = compare.interval(before, after)

    assert found.ratio == pytest.approx(2, abs=0.05)
    assert 1.9 < found.least < found.ratio < found.greatest < 2.2
    assert compare.interval(before, after) == found


def test_only_an_interval_without_one_is_a_difference() -> None:
    before = {"drain": [sample(rate, round=n) for n, rate in enumerate((100, 102, 98))]}
    after = {"drain": [sample(rate, round=n) for n, rate in enumerate((150, 153, 147))]}

    [line, *others] = cells(compare.table(before, after), "drain")
    [same, *_] = cells(compare.table(before, before), "drain")

    assert (line[1], line[4], line[-1]) == ("a second", "1.500", "better")
    assert {each[1]: each[-1] for each in others} == {"CPU us": "1.000", "WAL B": "1.000"}
    assert same[-1] == "1.041"


def test_less_of_a_latency_is_better() -> None:
    before = {"call": [sample(1, figures={"p99 ms": 10.0})]}
    after = {"call": [sample(1, figures={"p99 ms": 5.0})]}

    lines = cells(compare.table(before, after), "call")

    assert lines[-1][1:] == ["p99 ms", "10", "5", "0.500", "0.500", "0.500", "better"]


def test_a_commit_stands_for_its_newest_results(tmp_path: Path) -> None:
    for time, commit in (("1", "abc123"), ("2", "abc123"), ("3", "def456-dirty")):
        text = json.dumps({"machine": {"commit": commit}, "questions": {}})
        (tmp_path / f"2026T{time}.json").write_text(text)

    assert compare.find("abc", tmp_path).name == "2026T2.json"
    assert compare.find(str(tmp_path / "2026T1.json"), tmp_path).name == "2026T1.json"
    with pytest.raises(FileNotFoundError, match="fff"):
        compare.find("fff", tmp_path)


@pytest.mark.parametrize("peer", [PGPROG, *OTHERS], ids=lambda peer: peer.name)
def test_a_peer_has_its_statements(peer: Peer) -> None:
    assert peer.left.count("select") >= 1
    assert len(peer.age) in (0, 3, 4)
    assert all("%(count)s" in statement for statement in (peer.clone, *peer.age[:1]) if statement)


def test_what_is_wanted_stands_beside_the_newest_samples_that_there_are(tmp_path: Path) -> None:
    for name, rate in (("1-full", 200.0), ("2-quick", 400.0)):
        rounds = {YARDSTICK: [sample(100)], "drain, one task a process": [sample(rate)]}
        report.write(tmp_path / f"{name}.json", rounds, machine={"commit": name})
    report.write(tmp_path / "3-full.json", {"drain, inits": [sample(1)]}, machine={})

    shown = wanted.table(sorted(tmp_path.iterdir()))

    drained, beside_ceiling = cells(shown, "drain of ready calls, one worker")
    assert drained[1:6] == ["≥ 3 x c32", "4 (4 to 4)", "yes", "1", "2-quick"]
    assert beside_ceiling[2] == "not asked"
    assert cells(shown, "inits")[0][2] == "not asked"  # without the yardstick of its round
    [postgres] = cells(shown, "PostgreSQL's CPU of a task")
    assert postgres[1:4] == ["≤ 55 us", "1000 (1000 to 1000)", "no"]


def test_what_is_wanted_is_asked_by_a_question_of_the_bench() -> None:
    asked = {question.name for question in QUESTIONS}

    assert {name for line in wanted.LINES for name in (line.question, line.beside)} <= asked


@pytest.mark.parametrize(
    ("only", "asked"),
    [
        ([], ["yardstick", "drain"]),
        (["drain"], ["yardstick", "drain", "drain for hours"]),
        (["hours", "nothing of the kind"], ["yardstick", "drain for hours"]),
    ],
)
def test_what_is_long_is_asked_when_it_is_named_and_a_yardstick_always(
    only: list[str], asked: list[str]
) -> None:
    def ask(*_: object) -> Sample:
        raise AssertionError

    questions = [
        Question("yardstick", "commits", ask),
        Question("drain", "tasks", ask),
        Question("drain for hours", "tasks", ask, is_long=True),
    ]

    assert [each.name for each in chosen(questions, only, always=("yardstick",))] == asked
