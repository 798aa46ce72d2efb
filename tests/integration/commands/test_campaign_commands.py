"""`pgprog process repair --all`: campaigns over many processes in error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from tests.waiting import until

from pgprog import Engine, Intent, Namespace, PermanentError, Request, Step
from pgprog.cli import main
from pgprog.config import WorkerConfig
from pgprog.errors import Overloaded, StoreUnavailable
from pgprog.model import TaskType
from pgprog.store.campaign_store import CampaignStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

# Killed at a quarter and at a half of them.
PROCESSES = int(os.environ.get("PGPROG_CAMPAIGN_PROCESSES", "300"))
ALL = ("process", "repair", "--all")
JOBS = (*ALL, "--namespace", "jobs", "--yes")


@pytest.fixture
def mended() -> list[str]:
    """The log of the repair handler."""
    return []


@pytest.fixture
def jobs(db: str, mended: list[str]) -> Iterator[Any]:
    """The client of an engine whose jobs break at once, and are mended unless they are told not."""
    namespace = Namespace("jobs")

    @namespace.init
    async def begin(step: Step[Any]) -> None:
        raise PermanentError("no paper")

    @namespace.repair
    async def mend(step: Step[Any], args: Any = None) -> Intent[Any]:
        mended.append(step.process_id)
        if args == "badly":
            raise PermanentError("still no paper")
        return Intent(state={})

    with Engine(db, [namespace], worker=WorkerConfig(concurrency=50)) as engine:
        yield engine


@pytest.fixture
def break_jobs(jobs: Any, sql: psycopg.Connection[Any]) -> Callable[[int], None]:
    """Make so many processes in error."""

    def make(count: int) -> None:
        for begin in range(0, count, 1000):
            jobs.submit_many(
                Request(TaskType.INIT, "jobs", f"j{number}")
                for number in range(begin, min(begin + 1000, count))
            )
        in_error = "select count(*) from pgprog_data.processes where status = 'error'"
        until(lambda: sql.execute(in_error).fetchone() == (count,))

    return make


def last_campaign(sql: psycopg.Connection[Any]) -> str:
    [[campaign_id]] = sql.execute("select max(campaign_id) from pgprog.campaigns").fetchall()
    return str(campaign_id)


def start_and_kill(db: str, *words: str, mended: list[str], at: int) -> None:
    """Type a command in a program of its own, and kill it once so many were mended."""
    command = [sys.executable, "-m", "pgprog", *words, "--dsn", db]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(mended) < at and program.poll() is None:
        pass
    program.kill()
    program.wait()


@pytest.mark.slow  # programs are started and killed
def test_a_campaign_that_is_killed_twice_repairs_each_process_once(
    db: str, break_jobs: Any, mended: list[str], terminal: Any, sql: psycopg.Connection[Any]
) -> None:
    break_jobs(PROCESSES)
    pace = ("--per-second", str(PROCESSES / 2))
    start_and_kill(db, *JOBS, *pace, mended=mended, at=PROCESSES // 4)
    after_the_first, campaign_id = len(mended), last_campaign(sql)
    start_and_kill(db, *ALL, "--resume", campaign_id, *pace, mended=mended, at=PROCESSES // 2)
    after_the_second = len(mended)
    ended = terminal.json(*ALL, "--resume", campaign_id, "--max-open", "1000")

    assert PROCESSES // 4 <= after_the_first < after_the_second < PROCESSES
    assert ended["repaired"] == PROCESSES
    assert set(Counter(mended).values()) == {1}
    assert len(mended) == PROCESSES
    results = terminal.json(*ALL, "--results", campaign_id)
    assert {row["outcome"] for row in results} == {"repaired"}
    assert len(results) == PROCESSES


def test_a_campaign_goes_on_where_its_database_was_away(
    terminal: Any, break_jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks, then the pool has none in time; and once more behind a commit."""
    faults: list[Exception] = [StoreUnavailable("it restarts"), Overloaded("no connection")]
    go_on = CampaignStore.continue_campaign

    async def continue_(self: CampaignStore, *args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return await go_on(self, *args, **kwargs)

    async def announce(self: CampaignStore, channel: str, payloads: Any) -> None:
        raise StoreUnavailable("it restarts again")

    break_jobs(2)
    monkeypatch.setattr(CampaignStore, "continue_campaign", continue_)
    monkeypatch.setattr(CampaignStore, "announce", announce)

    assert terminal.json(*JOBS)["repaired"] == 2


def test_a_process_of_the_name_of_an_option_is_repaired_alone(db: str, jobs: Any) -> None:
    words = ["process", "repair", "--dsn", db, "--", "jobs", "--all"]
    answer = CliRunner().invoke(main, words)

    assert answer.exit_code == 1
    assert "no process --all" in answer.stderr


def test_a_campaign_of_no_processes_ends(terminal: Any, jobs: Any) -> None:
    ended = terminal.json(*JOBS)

    assert (ended["repaired"], ended["to_do"], ended["open"]) == (0, 0, 0)


def test_campaigns_are_listed_with_who_began_them_and_why(terminal: Any, jobs: Any) -> None:
    terminal.type(*JOBS, "--reason", "new paper")

    [found] = terminal.json(*ALL, "--list")
    [_, line] = terminal.type(*ALL, "--list").stdout.splitlines()

    assert (found["namespace"], found["items"], found["reason"]) == ("jobs", 0, "new paper")
    assert line.endswith("new paper")


def test_a_dry_run_says_what_would_be_repaired_and_repairs_none(
    terminal: Any, break_jobs: Any, mended: list[str]
) -> None:
    break_jobs(3)
    told = terminal.json(*JOBS, "--error-type", "PermanentError", "--dry-run")
    shown = terminal.type(*JOBS, "--error-type", "PermanentError", "--dry-run").stdout
    others = terminal.type(*JOBS, "--error-type", "NoInk", "--dry-run").stdout

    assert [(row["raised"], row["processes"]) for row in told["counts"]] == [("PermanentError", 3)]
    assert [row["process_id"] for row in told["first"]] == ["j0", "j1", "j2"]
    assert shown.startswith("3 processes would be repaired\n")
    assert others == "0 processes would be repaired\n"
    assert mended == []


def test_a_campaign_whose_repairs_fail_says_so_and_why(terminal: Any, break_jobs: Any) -> None:
    break_jobs(2)
    answer = terminal.type(*JOBS, '"badly"', "--reason", "new paper came")
    campaign_id = answer.stdout.split()[1]
    results = terminal.type(*ALL, "--results", campaign_id).stdout

    assert answer.exit_code == 3
    assert f"campaign {campaign_id}: 0 repaired, 2 failed, 0 skipped" in answer.stdout
    assert f"--results {campaign_id}" in answer.stderr
    assert results.count("still no paper") == 2


def test_a_campaign_asks_first(
    terminal: Any, break_jobs: Any, mended: list[str], sql: psycopg.Connection[Any]
) -> None:
    break_jobs(2)
    answer = terminal.type(*ALL, "--namespace", "jobs", stdin="n\n")

    assert answer.exit_code == 1
    assert "2 processes are meant" in answer.stderr
    assert sql.execute("select count(*) from pgprog.campaigns").fetchone() == (0,)
    assert mended == []


def test_a_campaign_that_is_stopped_leaves_the_rest_as_it_is(
    terminal: Any, break_jobs: Any, sql: psycopg.Connection[Any]
) -> None:
    break_jobs(2)
    [[campaign_id]] = sql.execute("select pgprog.begin_campaign('jobs')").fetchall()
    stopped = terminal.json(*ALL, "--stop", str(campaign_id))
    answer = terminal.type(*ALL, "--resume", str(campaign_id))

    assert stopped == {"campaign_id": campaign_id, "left": 2}
    assert answer.exit_code == 3
    assert "0 repaired, 0 failed, 2 skipped" in answer.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "--namespace is missing"),
        (["--namespace", "jobs", "--simple", "--name", "x"], 2, "neither ARGS nor --name"),
        (["--namespace", "nobody", "--yes"], 1, "no namespace nobody"),
        (["--resume", "999999"], 1, "no campaign 999999"),
        (["--stop", "999999"], 1, "no campaign 999999"),
    ],
)
def test_what_is_no_campaign_is_refused(
    terminal: Any, words: list[str], code: int, message: str
) -> None:
    answer = terminal.type(*ALL, *words)

    assert answer.exit_code == code
    assert message in answer.stderr
