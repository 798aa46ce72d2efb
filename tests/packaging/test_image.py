"""The image of deploy/Dockerfile, built by buildah and run by runc: `make image`.

There is no registry: the base is Debian's own Python in .image/base.tar, and packages come from a
directory.  The container is what deploy/kubernetes asks for: no root, no capability, nothing to
write but /tmp, and the memory that it is given.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.machine import reachable

from pgprog import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BASE = ROOT / ".image/base.tar"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
REQUIREMENTS = ".[cli,encryption,metrics,otel]"
BASES_PYTHON = "3.11"  # of Debian 12
SECONDS = 60

pytestmark = [
    pytest.mark.slow,  # it builds an image: minutes
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not os.environ.get("PGPROG_IMAGE"), reason="make image"),
]


@dataclass(frozen=True)
class Buildah:
    """Images and containers in a place of their own."""

    place: Path

    def run(self, *words: str) -> str:
        stores = ("--root", f"{self.place}/images", "--runroot", f"{self.place}/run")
        done = subprocess.run(
            ["buildah", "--storage-driver", "vfs", *stores, *words],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with all that the image installs, and what builds pgprog itself."""
    place = tmp_path_factory.mktemp("packages")
    platforms = [word for each in PLATFORMS for word in ("--platform", each)]
    command = [sys.executable, "-m", "pip", "--quiet", "download", "--dest", str(place)]
    chosen = ["--python-version", BASES_PYTHON, "--only-binary=:all:", *platforms]
    wheel = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(wheel, cwd=ROOT, check=True, capture_output=True)
    [built] = place.glob("pgprog-*.whl")
    extras = REQUIREMENTS.removeprefix(".")
    subprocess.run([*command, *chosen, f"{built}{extras}", "hatchling"], cwd=ROOT, check=True)
    return place


@pytest.fixture(scope="module")
def image(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """The image pgprog, built without a network."""
    buildah = Buildah(tmp_path_factory.mktemp("buildah"))
    base = buildah.run("from", "scratch")
    buildah.run("add", base, str(BASE), "/")
    buildah.run("commit", "--rm", base, "localhost/base")
    settings = packages / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /packages\n")
    buildah.run(
        "build", "--format", "docker", "--isolation", "oci", "--runtime", "runc",
        "--network", "none",
        "--volume", f"{packages}:/packages:ro", "--volume", f"{settings}:/etc/pip.conf:ro",
        "--build-arg", "BASE=localhost/base", "--file", "deploy/Dockerfile", "--tag", "pgprog", ".",
    )  # fmt: skip
    yield buildah
    buildah.run("rm", "--all")
    shutil.rmtree(buildah.place, ignore_errors=True)


@dataclass(frozen=True)
class Container:
    """A running container, by runc."""

    name: str
    program: subprocess.Popen[bytes]
    out: Path
    config: dict[str, Any]

    def check_health(self) -> int:
        """Do what HEALTHCHECK says; return its exit code."""
        kind, *words = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.exec(*words).returncode

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["runc", "exec", self.name, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def said(self) -> str:
        return self.out.read_text()


def bundle(image: Buildah, place: Path, words: list[str], environ: dict[str, str]) -> Any:
    """Write what runc runs into *place*; return the configuration of the image."""
    container = image.run("from", "localhost/pgprog")
    root = image.run("mount", container)
    config = json.loads(image.run("inspect", container))["Docker"]["config"]
    shutil.copytree(ROOT / "deploy", place / "app", ignore=shutil.ignore_patterns("Dockerfile"))
    (place / "app").chmod(0o755)
    subprocess.run(["runc", "spec"], cwd=place, check=True)
    spec = json.loads((place / "config.json").read_text())
    spec["root"] = {"path": root, "readonly": True}
    variables = [*config["Env"], *(f"{k}={v}" for k, v in environ.items())]
    spec["process"] = {
        "user": dict(zip(("uid", "gid"), map(int, config["User"].split(":")), strict=True)),
        "args": [*config["Entrypoint"], *(words or config["Cmd"])],
        "env": variables, "cwd": config["WorkingDir"], "noNewPrivileges": True,
        "capabilities": {}, "terminal": False,
    }  # fmt: skip
    bound = {"type": "bind", "options": ["rbind", "ro"]}
    spec["mounts"] += [
        {"destination": "/app", "source": str(place / "app"), **bound},
        {"destination": "/tmp", "source": "tmpfs", "type": "tmpfs", "options": ["size=64m"]},
    ]
    # The database of the test is on this machine.
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    spec["linux"]["resources"] |= {"memory": {"limit": 512 << 20}, "pids": {"limit": 100}}
    (place / "config.json").write_text(json.dumps(spec))
    return config


@pytest.fixture
def run(image: Buildah, db: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run the image, as deployed, on the database of the test."""
    running: list[Container] = []

    with reachable(db) as dsn:

        def start(*words: str) -> Container:
            place = tmp_path_factory.mktemp("bundle")
            name = f"pgprog-test-{os.getpid()}-{len(running)}"
            environ = {"PGPROG_DSN": dsn, "PGPROG_CONFIG": "/app/pgprog.yaml"}
            config = bundle(image, place, list(words), environ)
            with (place / "out").open("wb") as out:
                command = ["runc", "run", "--bundle", str(place), name]
                program = subprocess.Popen(command, stdout=out, stderr=out)
            running.append(Container(name, program, place / "out", config))
            return running[-1]

        yield start
        for each in running:
            if each.program.poll() is None:
                subprocess.run(["runc", "kill", each.name, "KILL"], check=False)
                each.program.wait(SECONDS)


def ready(container: Container) -> None:
    end = time.monotonic() + SECONDS
    while True:
        assert container.program.poll() is None, container.said()
        assert time.monotonic() < end, container.said()
        try:
            urllib.request.urlopen("http://127.0.0.1:9100/ready", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def test_the_image_serves_tasks_and_drains_at_sigterm(run: Any, db: str) -> None:
    worker = run()
    ready(worker)
    with Client(db) as client:
        client.init("hello", "world")
        greeting = client.call("hello", "world", {"name": "Ada"}, name="greet")
    health = worker.check_health()
    who = worker.exec("sh", "-c", "id -u; grep CapEff /proc/1/status; touch /app/x || touch /x")
    worker.program.send_signal(signal.SIGTERM)

    assert worker.program.wait(SECONDS) == 0, worker.said()
    assert greeting == "Hello Ada, you are number 1"
    assert health == 0
    assert who.stdout.split() == ["10001", "CapEff:", "0000000000000000"]
    assert who.returncode != 0


def test_the_health_check_fails_where_no_worker_answers(run: Any) -> None:
    worker = run("worker", "--http", "127.0.0.1:9101")
    end = time.monotonic() + SECONDS
    while worker.exec("true").returncode != 0:
        assert time.monotonic() < end, worker.said()

    assert worker.check_health() != 0


def test_the_image_migrates(run: Any) -> None:
    job = yaml.safe_load((ROOT / "deploy/kubernetes/migrate.yaml").read_text())
    [container] = job["spec"]["template"]["spec"]["containers"]
    migration = run(*container["args"])

    assert migration.program.wait(SECONDS) == 0, migration.said()


def test_the_image_adds_less_than_70_megabytes_to_its_base(image: Buildah) -> None:
    megabytes = {
        each["names"][0]: float(each["size"].removesuffix(" MB"))
        for each in json.loads(image.run("images", "--json"))
    }

    assert megabytes["localhost/pgprog:latest"] - megabytes["localhost/base:latest"] < 70
