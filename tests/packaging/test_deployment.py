"""What deploys pgprog agrees with pgprog: commands, ports, paths, seconds, bytes, rights."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pgprog.cli import main
from pgprog.config import load
from pgprog.daemon.monitor import pages
from pgprog.daemon.notify import STOP_MARGIN_SECONDS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OBJECTS = {
    each["kind"]: each
    for name in ("worker", "migrate")
    for each in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())
}
PODS = [OBJECTS[kind]["spec"]["template"]["spec"] for kind in ("Deployment", "Job")]
[WORKER], [MIGRATE] = (pod["containers"] for pod in PODS)
OURS = [name for name, each in COMPOSE["services"].items() if each["image"] == "pgprog"]
BYTES = {"M": 1 << 20, "Mi": 1 << 20, "G": 1 << 30, "Gi": 1 << 30}


def options_of(words: list[str]) -> dict[str, Any]:
    """Return what the command line makes of these words; words that it does not know fail."""
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command.make_context(command.name, [*words], parent=context).params


def in_bytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * BYTES[unit]


def variables(container: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in container["env"]}


@pytest.fixture
def configured(tmp_path: Path) -> Any:
    """The configuration of the ConfigMap."""
    (tmp_path / "pgprog.yaml").write_text(OBJECTS["ConfigMap"]["data"]["pgprog.yaml"])
    return load(tmp_path / "pgprog.yaml", environ={})


def image_command() -> list[str]:
    words: list[str] = yaml.safe_load(re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)[-1])
    return words


@pytest.mark.parametrize(
    "words",
    [WORKER["args"], image_command(), COMPOSE["services"]["worker"]["command"]],
    ids=["kubernetes", "image", "compose"],
)
def test_a_worker_is_started_by_words_that_it_knows_and_answers_on_one_port(
    words: list[str],
) -> None:
    assert options_of(words)["http"] == "0.0.0.0:9100"


def test_migrations_are_started_by_words_that_the_command_line_knows() -> None:
    assert MIGRATE["args"] == COMPOSE["services"]["migrate"]["command"] == ["db", "migrate"]
    options_of(MIGRATE["args"])


def test_all_ask_on_the_port_that_is_served_and_for_paths_that_there_are() -> None:
    paths = pages._PATHS.split()
    probes = {kind: WORKER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness")}
    readiness = WORKER["readinessProbe"]["httpGet"]
    annotations = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    [port] = WORKER["ports"]
    asked = re.search(r"http://127.0.0.1:(\d+)(/\w+)", DOCKERFILE)

    assert {each["path"] for each in probes.values()} == {"/live"} < {*paths}
    assert readiness["path"] == "/ready" in paths
    assert annotations["prometheus.io/path"] == "/metrics" in paths
    assert {each["port"] for each in (*probes.values(), readiness)} == {port["name"]}
    assert port["containerPort"] == int(annotations["prometheus.io/port"]) == 9100
    assert OBJECTS["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert asked is not None
    assert asked.groups() == ("9100", "/live")
    assert "EXPOSE 9100" in DOCKERFILE


def test_a_worker_is_given_the_time_to_drain(configured: Any) -> None:
    margin = timedelta(seconds=STOP_MARGIN_SECONDS)
    grace = timedelta(seconds=PODS[0]["terminationGracePeriodSeconds"])
    stop = load(DEPLOY / "pgprog.yaml", environ={}).worker.stop_timeout

    assert grace == configured.worker.stop_timeout + margin
    assert COMPOSE["services"]["worker"]["stop_grace_period"] == "45s"
    assert stop + margin == timedelta(seconds=45)


def test_a_worker_drains_itself_before_its_memory_is_taken(configured: Any) -> None:
    composed = load(DEPLOY / "pgprog.yaml", environ={})
    for config, given in (
        (configured, WORKER["resources"]),
        (composed, COMPOSE["services"]["worker"]["deploy"]["resources"]),
    ):
        assert (config.worker.memory_limit or math.inf) <= 0.8 * in_bytes(given["limits"]["memory"])


def test_no_container_is_root_may_write_or_has_a_capability() -> None:
    user = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)[-1]
    for pod, container in zip(PODS, (WORKER, MIGRATE), strict=True):
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"]
        assert f"{rights['runAsUser']}:{rights['runAsGroup']}" == user
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for name in OURS:
        service = COMPOSE["services"][name]
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_every_container_has_limits() -> None:
    for service in COMPOSE["services"].values():
        assert {*service["deploy"]["resources"]["limits"]} == {"cpus", "memory", "pids"}
    for container in (WORKER, MIGRATE):
        assert {"requests", "limits"} <= {*container["resources"]}


def test_no_secret_is_in_a_manifest_and_the_variables_are_known(
    tmp_path: Path, configured: Any
) -> None:
    for container in (WORKER, MIGRATE):
        for name, each in variables(container).items():
            is_dsn = name.endswith("DSN")
            assert ("valueFrom" in each) == is_dsn, name
    environ = dict.fromkeys(variables(WORKER), "host=db")
    del environ["PGPROG_CONFIG"]
    known = load(None, environ=environ)

    assert (known.dsn, known.direct_dsn) == ("host=db", "host=db")
    assert [*configured.namespaces] == ["hello"]


def test_labels_find_the_pods_and_one_may_always_go() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    budget = OBJECTS["PodDisruptionBudget"]["spec"]

    assert OBJECTS["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert budget["selector"]["matchLabels"] == OBJECTS["Service"]["spec"]["selector"] == labels
    assert budget["maxUnavailable"] < OBJECTS["Deployment"]["spec"]["replicas"]
    assert OBJECTS["Job"]["spec"]["template"]["metadata"]["labels"] != labels


def test_the_image_copies_only_what_the_context_has_and_installs_known_extras() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    names = [name for each in copied for name in each.split()]
    [extras] = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    project = (ROOT / "pyproject.toml").read_text()

    assert {f"!{name}" for name in names} <= {*ignored}
    assert all((ROOT / name).exists() for name in names)
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
