"""The services of docker-compose.yml find each other, their files, and what pgprog reads."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict
from tests.packaging.test_deployment import DEPLOY, DOCKERFILE, OBJECTS, OURS, PODS, ROOT, WORKER

from pgprog.config import load

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVER = SERVICES["postgres"]["environment"]
GUIDE = ROOT / "docs/how-to/containers.md"


def mounts(service: str) -> dict[str, str]:
    """Return what is mounted in a service from here or from a volume, by where it is there."""
    given = (each.split(":") for each in SERVICES[service].get("volumes", ()))
    return {target: source for source, target, *_ in given}


def target_of(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def published(service: str) -> set[int]:
    """Return the ports of a service that this machine sees."""
    return {int(each.rpartition(":")[2]) for each in SERVICES[service].get("ports", ())}


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_mounts_is_there(service: str) -> None:
    for source in mounts(service).values():
        # Docker makes a directory of what is missing, and the service fails for another reason.
        assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_waits_for_is_there_and_can_become_so(service: str) -> None:
    waits = SERVICES[service].get("depends_on", {})
    for name in waits:
        other = SERVICES[name]
        profiles = {*SERVICES[service].get("profiles", ())}
        assert not other.get("profiles") or (profiles and profiles <= {*other["profiles"]})
        match waits[name]["condition"] if isinstance(waits, dict) else "service_started":
            case "service_healthy":
                assert other["healthcheck"]["test"]
            case "service_completed_successfully":
                assert "restart" not in other, "it would never be complete"
            case condition:
                assert condition == "service_started"


@pytest.mark.parametrize("service", OURS)
def test_pgprog_is_told_of_a_database_that_there_is_and_of_a_file_that_is_mounted(
    service: str,
) -> None:
    environ = SERVICES[service]["environment"]
    file = mounts(service)[environ["PGPROG_CONFIG"]]
    config = load(ROOT / file, environ={**environ, "PGPROG_CONFIG": ""})

    assert {*environ} == {"PGPROG_DSN", "PGPROG_DIRECT_DSN", "PGPROG_CONFIG"}
    assert (config.dsn, config.direct_dsn) == (environ["PGPROG_DSN"], environ["PGPROG_DIRECT_DSN"])
    for dsn in (config.dsn, config.direct_dsn):
        assert conninfo_to_dict(dsn or "") == {
            "host": "postgres",
            "user": SERVER["POSTGRES_USER"],
            "password": SERVER["POSTGRES_PASSWORD"],
            "dbname": SERVER["POSTGRES_DB"],
        }


def test_handlers_lie_where_the_image_looks_for_them() -> None:
    [path] = re.findall(r"PYTHONPATH=(\S+)", DOCKERFILE)
    for each in load(DEPLOY / "pgprog.yaml", environ={}).namespaces.values():
        module = str(each.handlers).partition(":")[0]
        assert f"{path}/{module}.py" in mounts("worker")


def test_the_health_of_postgres_is_that_of_its_database_by_tcp() -> None:
    """While the image makes the cluster, a server of its own listens on the socket only."""
    kind, program, *options = SERVICES["postgres"]["healthcheck"]["test"]

    assert (kind, program) == ("CMD", "pg_isready")
    assert {*options} == {
        f"--username={SERVER['POSTGRES_USER']}",
        f"--dbname={SERVER['POSTGRES_DB']}",
        "--host=localhost",
    }


def test_the_pooler_leads_to_the_database_and_knows_its_login() -> None:
    pooler = configparser.ConfigParser(interpolation=None)
    pooler.read(DEPLOY / "pgbouncer/pgbouncer.ini")
    leads = conninfo_to_dict(pooler["databases"][SERVER["POSTGRES_DB"]])
    users = (DEPLOY / "pgbouncer/userlist.txt").read_text().split()
    comment = re.findall(r"@(\w+):(\d+) here", (ROOT / "docker-compose.yml").read_text())

    assert leads == {"host": "postgres", "port": "5432", "dbname": SERVER["POSTGRES_DB"]}
    assert users == [f'"{SERVER["POSTGRES_USER"]}"', f'"{SERVER["POSTGRES_PASSWORD"]}"']
    assert pooler["pgbouncer"]["auth_file"] in mounts("pgbouncer")
    assert published("pgbouncer") == {int(pooler["pgbouncer"]["listen_port"])}
    assert comment == [("pgbouncer", pooler["pgbouncer"]["listen_port"])]


def test_prometheus_scrapes_the_port_of_the_worker_and_grafana_asks_prometheus() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    [scraped] = [job for job in prometheus["scrape_configs"] if job["job_name"] == "pgprog"]
    [target] = scraped["static_configs"][0]["targets"]
    [source] = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    [boards] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/pgprog.yml").read_text())[
        "providers"
    ]
    command = SERVICES["worker"]["command"]

    assert target_of(f"//{target}") == ("worker", 9100)
    assert command[command.index("--http") + 1] == "0.0.0.0:9100"
    for name in prometheus["rule_files"]:
        assert f"/etc/prometheus/{name}" in mounts("prometheus")
    assert target_of(source["url"]) == ("prometheus", *published("prometheus"))
    assert boards["options"]["path"] in mounts("grafana")


def test_pods_mount_their_configuration_where_they_look_for_it() -> None:
    [where] = [each["value"] for each in WORKER["env"] if each["name"] == "PGPROG_CONFIG"]
    [mounted] = [each for each in WORKER["volumeMounts"] if each["name"] == "config"]
    [volume] = [each for each in PODS[0]["volumes"] if each["name"] == "config"]

    assert Path(where).parent == Path(mounted["mountPath"])
    assert volume["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    assert [Path(where).name] == [*OBJECTS["ConfigMap"]["data"]]
    assert {each["name"] for each in WORKER["volumeMounts"]} == {
        each["name"] for each in PODS[0]["volumes"]
    }
    assert PODS[0]["serviceAccountName"] == OBJECTS["ServiceAccount"]["metadata"]["name"]


def test_the_guide_makes_the_secret_that_pods_read_and_waits_for_the_job_that_there_is() -> None:
    [made] = re.findall(r"create secret generic (\w+) (.*)", GUIDE.read_text())
    [job] = re.findall(r"job/(\S+)", GUIDE.read_text())
    read = {
        (each["valueFrom"]["secretKeyRef"]["name"], each["valueFrom"]["secretKeyRef"]["key"])
        for pod in PODS
        for container in pod["containers"]
        for each in container["env"]
        if "valueFrom" in each
    }

    assert read == {(made[0], key) for key in re.findall(r"--from-literal=([\w-]+)=", made[1])}
    assert job == OBJECTS["Job"]["metadata"]["name"]


def test_no_pod_is_given_variables_of_services_which_pgprog_would_take_for_its_own() -> None:
    for pod in PODS:
        assert pod["enableServiceLinks"] is False
