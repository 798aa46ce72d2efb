"""`pgprog process watch`."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.integration.server_wide import wait_ended

from pgprog.client import following
from pgprog.client.lookout import Lookout

GUIDE = Path(__file__).parents[3] / "docs/how-to/watch.md"


@pytest.fixture
def on_pause(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the next pauses of the command do what it is given, in turn."""

    def give(*deeds: Any) -> None:
        left = iter(deeds)

        async def pause(_: Lookout) -> None:
            next(left)()

        monkeypatch.setattr(Lookout, "pause", pause)

    return give


@pytest.fixture
def on_told(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the next pause of watching many, once a position is told, do what it is given."""

    def give(deed: Any) -> None:
        async def pause(_: object, looks: Any) -> None:
            if not looks.has_news:
                deed()
            await asyncio.sleep(0.01)  # the log is not flushed yet

        monkeypatch.setattr(following, "_pause", pause)

    return give


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_watched_process_is_a_line_of_json_for_each_change_until_it_is_removed(
    terminal: Any, closed_shop: None, sql: Any, on_pause: Any
) -> None:
    on_pause(lambda: sql.execute("select pgprog.remove('orders', 'o-1')"))
    answer = terminal.type("process", "watch", "orders", "o-1", "--after", "0.0.0", "--json")

    [first, last] = map(json.loads, answer.stdout.splitlines())
    assert answer.exit_code == 0
    assert first["state"] == {"due": 10}
    assert [event["payload"] for event in first["history"]] == [{"opened": {"due": 10}}]
    assert first["seen"] == f"{first['version']}.{first['incarnation']}.1"
    assert last == {"namespace": "orders", "process_id": "o-1", "removed": True}


def test_watching_goes_on_behind_what_was_seen(
    terminal: Any, closed_shop: None, on_pause: Any
) -> None:
    on_pause(interrupt)
    first = terminal.type("process", "watch", "orders", "o-1")
    on_pause(interrupt)
    again = terminal.type("process", "watch", "orders", "o-1", "--after", first.stdout.split()[0])

    assert first.stdout.split()[1:] == ["running", '{"due":', "10}"]
    assert (first.exit_code, again.exit_code) == (130, 130)
    assert again.stdout == ""


def test_what_was_seen_is_checked_and_a_process_that_is_not_there_is_told(
    terminal: Any, closed_shop: None
) -> None:
    wrong = terminal.type("process", "watch", "orders", "o-1", "--after", "7")
    missing = terminal.type("process", "watch", "orders", "o-2")

    assert wrong.exit_code == 2
    assert "VERSION.INCARNATION.EVENT_ID" in wrong.stderr
    assert missing.exit_code == terminal.type("process", "get", "orders", "o-2").exit_code
    assert missing.exit_code != 0


def test_the_processes_in_a_status_are_a_line_of_json_each_and_a_position_to_go_on_from(
    terminal: Any, closed_shop: None, sql: Any, on_told: Any
) -> None:
    wait_ended(sql)  # what runs beside o-1 would hold the position back
    on_told(interrupt)
    first = terminal.type("process", "watch", "orders", "--status", "running", "--json")
    found, reached = map(json.loads, first.stdout.splitlines())
    after = reached["position"]
    on_told(interrupt)
    again = terminal.type("process", "watch", "orders", "--after", after, "--json")
    on_told(interrupt)
    none = terminal.type("process", "watch", "orders", "--status", "error")

    names = ("namespace", "what", "process_id", "status", "detail")
    assert [found[name] for name in names] == ["orders", "changed", "o-1", "running", None]
    [further] = map(json.loads, again.stdout.splitlines())
    assert further.keys() == reached.keys()
    assert int(further["position"].split("@")[0]) >= int(after.split("@")[0])
    assert [line.split()[0] for line in none.stdout.splitlines()] == ["position"]
    assert {first.exit_code, again.exit_code, none.exit_code} == {130}


def test_what_is_of_one_process_is_refused_for_many_and_the_other_way_round(
    terminal: Any, closed_shop: None
) -> None:
    for words in (["--after", "1.1.1"], ["o-1", "--status", "error"], ["o-1", "--after", "7"]):
        assert terminal.type("process", "watch", "orders", *words).exit_code == 2
    missing = terminal.type("process", "watch", "parcels")
    assert "no namespace parcels" in missing.stderr


def test_the_guide_shows_what_is_printed(
    terminal: Any, closed_shop: None, sql: Any, on_pause: Any
) -> None:
    console, *_ = re.findall(r"```console\n\$ pgprog (.*?)\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    on_pause(lambda: sql.execute("select pgprog.remove('orders', 'o-1')"))
    printed = terminal.type(*console[0].split()).stdout

    expected = ".+".join(map(re.escape, console[1].split("...")))
    assert re.fullmatch(expected, printed)
