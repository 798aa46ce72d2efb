"""A new user reaches a running worker under systemd by the commands of the guide."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from tests.machine import Machine, needs_systemd, reachable
from tests.waiting import until

from pgprog import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow  # a systemd is booted, pgprog is installed

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/how-to/systemd.md").read_text()
COMMANDS = re.findall(r"^\$ (.*)$", GUIDE, flags=re.MULTILINE)
UNIT = "pgprog-worker@shop"


def block(language: str) -> str:
    [text] = re.findall(rf"```{language}\n(.*?)```", GUIDE, flags=re.DOTALL)
    return str(text)


# What the shop of the guide does not do: hold its worker up.
MORE = """
import asyncio, time

@shop.call
async def slow(step: Step) -> Intent:
    await asyncio.sleep(2)
    return Intent(response=step.attempt)

@shop.call
async def block(step: Step) -> Intent:
    if step.attempt == 1:
        time.sleep(1000)
    return Intent(response=step.attempt)
"""


class Shop:
    """The machine after the commands of the guide, with how these *ended*; and a client."""

    def __init__(self, machine: Machine, client: Client) -> None:
        self.machine = machine
        self.client = client
        self.ended: list[subprocess.CompletedProcess[str]] = []

    def show(self, key: str) -> str:
        """Return what systemd knows of the worker."""
        return self.machine.run(f"systemctl show --property {key} --value {UNIT}").stdout.strip()

    def systemctl(self, verb: str) -> None:
        """Have systemd do it, and wait until it is done."""
        ended = self.machine.run(f"systemctl {verb} {UNIT}")
        assert ended.returncode == 0, (ended, self.machine.log)

    def override(self, line: str) -> None:
        """Change the unit, and start the worker again."""
        drop_in = f"/etc/systemd/system/{UNIT}.service.d"
        said = f"printf '[Service]\\n{line}\\n' > {drop_in}/test.conf"
        self.machine.run(f"mkdir -p {drop_in} && {said} && systemctl daemon-reload")
        self.systemctl("restart")


@pytest.fixture(scope="module")
def shop(module_db: str) -> Iterator[Shop]:
    needs_systemd()
    place = Path(tempfile.mkdtemp(prefix="pgprog-test-", dir="/tmp"))
    place.chmod(0o755)  # every account may enter
    (place / "shop.py").write_text(block("python") + MORE)
    (place / "pgprog.yaml").write_text(block("yaml"))
    machine = Machine(place)
    try:
        environ = index(place)
        machine.start()
        with reachable(module_db) as dsn, Client(module_db) as client:
            (place / "shop.env").write_text(f"PGPROG_DSN='{dsn}'\n")
            made = Shop(machine, client)
            made.ended = [machine.run(command, cwd=place, **environ) for command in COMMANDS]
            codes = [each.returncode for each in made.ended]
            assert codes == [0] * len(COMMANDS), (made.ended, machine.log)
            client.submit("init", "shop", "o-1")
            yield made
    finally:
        machine.close()
        shutil.rmtree(place)


def index(place: Path) -> dict[str, str]:
    """Return what has pip take the pgprog of this tree for the one that is published."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place / "wheels")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = (place / "wheels").iterdir()
    (place / "constraints.txt").write_text(f"pgprog @ file://{wheel}\n")
    theirs = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
    return {**theirs, "PIP_CONSTRAINT": str(place / "constraints.txt")}


def test_the_guide_has_at_most_ten_commands() -> None:
    assert 0 < len(COMMANDS) <= 10


@pytest.mark.timeout(300)
def test_the_commands_of_the_guide_lead_to_a_running_worker(shop: Shop) -> None:
    answer = shop.client.call("shop", "o-1", {"amount": 4}, name="pay")

    assert "Active: active (running)" in shop.ended[-1].stdout
    assert re.search(r'Status: "\d+ of 20 steps busy, no more are due', shop.ended[-1].stdout)
    assert answer == 4


def test_a_reload_takes_the_settings_of_the_file_over(shop: Shop, module_db: str) -> None:
    change = 's/"shop:shop"/"shop:shop", retention: 9d/'
    shop.machine.run(f"sed -i '{change}' /opt/shop/pgprog.yaml")
    shop.systemctl("reload")
    taken = "select from pgprog.namespaces where settings ->> 'retention' = '9d'"
    with psycopg.connect(module_db, autocommit=True) as sql:
        until(lambda: sql.execute(taken).fetchall())

    assert shop.show("NRestarts") == "0"


def test_a_worker_that_was_killed_is_started_again(shop: Shop) -> None:
    before = int(shop.show("NRestarts"))
    shop.systemctl("kill --signal KILL")
    until(lambda: int(shop.show("NRestarts")) > before)

    assert shop.client.call("shop", "o-1", name="slow") == 1


def test_a_stop_waits_for_steps_though_the_unit_gives_them_less(shop: Shop) -> None:
    shop.override("TimeoutStopSec=500ms")
    task = shop.client.submit("call", "shop", "o-1", name="slow")
    until(lambda: str(shop.client.result(task.task_id).status) == "running")
    shop.systemctl("stop")

    assert shop.show("Result") == "success"
    assert shop.client.wait(task.task_id) == 1


def test_a_worker_that_makes_no_progress_is_replaced_and_shows_where_it_stood(shop: Shop) -> None:
    shop.override("WatchdogSec=2s\\nStandardError=append:/run/said")
    task = shop.client.submit("call", "shop", "o-1", name="block")
    until(lambda: shop.show("NRestarts") != "0")

    assert shop.client.wait(task.task_id, timeout=60) == 2
    said = shop.machine.run("cat /run/said").stdout
    assert "Fatal Python error: Aborted" in said
    assert "in block" in said
