"""Each command line of docker-compose.yml and deploy/kubernetes does its work, on a real database.

It is run with the variables of the image and its own and no others, beside the files that are
mounted; what is not there is the container.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.alerting import free_ports
from tests.packaging.test_compose import SERVICES, mounts
from tests.packaging.test_deployment import (
    DOCKERFILE,
    MIGRATE,
    OBJECTS,
    ROOT,
    WORKER,
    image_command,
    in_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

from pgprog import Client

SECONDS = 60
[ENTRYPOINT] = re.findall(r'^ENTRYPOINT \["(\w+)"\]', DOCKERFILE, re.MULTILINE)
PROGRAM = Path(sys.executable).with_name(ENTRYPOINT)
MIGRATIONS = {
    "compose": (SERVICES["migrate"]["command"], SERVICES["migrate"]["deploy"]["resources"]),
    "kubernetes": (MIGRATE["args"], MIGRATE["resources"]),
}
WORKERS = {
    "image": image_command(),
    "compose": SERVICES["worker"]["command"],
    "kubernetes": WORKER["args"],
}
# A program is said to have taken what its parent had when it began: this one has little.
_MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
MEASURED = [sys.executable, "-c", _MEASURE]

pytestmark = pytest.mark.slow  # programs start


@dataclass(frozen=True)
class Place:
    """What of a container its programs see: /app, and the variables."""

    app: Path
    dsn: str

    def start(
        self, words: list[str], *, has_config: bool = True, through: Sequence[str] = ()
    ) -> subprocess.Popen[str]:
        given = re.findall(r"^\s*(?:ENV )?(PYTHON\w+)=(\S+)", DOCKERFILE, re.MULTILINE)
        environ = {name: value.replace("/app", str(self.app)) for name, value in given}
        environ |= {"PATH": os.environ["PATH"], "PGPROG_DSN": self.dsn}
        if has_config:
            environ |= {"PGPROG_DIRECT_DSN": self.dsn, "PGPROG_CONFIG": f"{self.app}/pgprog.yaml"}
        return subprocess.Popen(
            [*through, PROGRAM, *words],
            env=environ,
            cwd=self.app,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def bare(admin: psycopg.Connection[Any]) -> Iterator[str]:
    """A database without pgprog's schema."""
    name = f"bare_{os.getpid()}"
    admin.execute(f"create database {name} template template1".encode())
    yield make_conninfo(os.environ["PGPROG_TEST_DSN"], dbname=name)
    admin.execute(f"drop database {name} with (force)".encode())


def place_of(app: Path, dsn: str, *, kind: str) -> Place:
    """Lay out what is mounted; for pods the handlers are in an image of the user's."""
    files = mounts("worker").items()
    for target, source in files:
        (app / Path(target).name).write_bytes((ROOT / source).read_bytes())
    if kind == "kubernetes":
        (app / "pgprog.yaml").write_text(OBJECTS["ConfigMap"]["data"]["pgprog.yaml"])
    return Place(app, dsn)


@pytest.mark.parametrize("kind", MIGRATIONS)
def test_the_migration_that_is_deployed_makes_the_schema_twice_over_within_its_memory(
    kind: str, bare: str, tmp_path: Path
) -> None:
    words, resources = MIGRATIONS[kind]
    place = place_of(tmp_path, bare, kind=kind)
    for _ in range(2):
        migration = place.start(words, has_config=kind == "compose", through=MEASURED)
        said, _ = migration.communicate(timeout=SECONDS)
        assert migration.returncode == 0, said
        most_kilobytes = int(said.splitlines()[-1])
        assert most_kilobytes << 10 <= 0.8 * in_bytes(resources["limits"]["memory"])

    with psycopg.connect(bare) as sql:
        sql.execute("select from pgprog.processes")


@pytest.mark.parametrize("kind", WORKERS)
def test_the_worker_that_is_deployed_is_ready_serves_is_healthy_and_drains(
    kind: str, db: str, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    words = [word.replace("0.0.0.0:9100", f"127.0.0.1:{port}") for word in WORKERS[kind]]
    [check] = re.findall(r"^HEALTHCHECK .*\n\s+CMD (.*)$", DOCKERFILE, re.MULTILINE)
    place = place_of(tmp_path, db, kind=kind)
    worker = place.start(words)
    try:
        wait_until_ready(worker, port)
        with Client(db) as client:
            client.init("hello", "world")
            greeting = client.call("hello", "world", {"name": "Ada"}, name="greet")
        health = [word.replace(":9100", f":{port}") for word in json.loads(check)]
        healthy = subprocess.run(health, check=False).returncode
        page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS).read()
    finally:
        worker.send_signal(signal.SIGTERM)
        said, _ = worker.communicate(timeout=SECONDS)

    assert worker.returncode == 0, said
    assert greeting == "Hello Ada, you are number 1"
    assert healthy == 0
    assert re.search(r'^pgprog_tasks_total\{[^}]*namespace="hello"', page.decode(), re.MULTILINE)
    assert all("event" in json.loads(line) for line in said.splitlines())


def wait_until_ready(worker: subprocess.Popen[str], port: int) -> None:
    end = time.monotonic() + SECONDS
    while True:
        assert worker.poll() is None, worker.stdout and worker.stdout.read()
        assert time.monotonic() < end
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return


@pytest.mark.parametrize(
    "line",
    re.findall(
        r"docker run --env PGPROG_DSN pgprog (.*?)`",
        (ROOT / "docs/how-to/containers.md").read_text(),
    ),
)
def test_what_the_guide_has_the_image_run_is_a_command(
    line: str, bare: str, tmp_path: Path
) -> None:
    program = place_of(tmp_path, bare, kind="image").start(shlex.split(line))
    said, _ = program.communicate(timeout=SECONDS)

    assert program.returncode == 0, said
