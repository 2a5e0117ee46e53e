"""The files for deployment are valid and fit together, and every query is of an existing metric."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # its stubs aren't worth a dependency

from config.settings import VARIABLES
from telemetry.metrics import all_metrics, note_verified

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "compose.yaml").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboards/daybook.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]


def queries(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for name, value in node.items() if name == "expr")
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from queries(child)


def metrics(query: str) -> set[str]:
    names = re.findall(r"\b(?:daybook|stamina)_\w+", query)
    return {re.sub("_(bucket|count|sum)$", "", name) for name in names}


@pytest.fixture
def told(tmp_path: Path) -> set[str]:
    """Return the metrics that the service exposes."""
    note_verified(tmp_path, "all", complete=True, users=0, mismatches=0)
    families = all_metrics(tmp_path).collect()
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    return {name for name in names if name.startswith("daybook_")} | {
        "stamina_retries_total"
    }  # made at the first retry


def test_the_dashboard_shows_every_metric_and_no_other(told: set[str]) -> None:
    assert set().union(*map(metrics, queries(DASHBOARD))) == told


def test_the_alerts_are_of_metrics_that_there_are(told: set[str]) -> None:
    assert set().union(*map(metrics, queries(RULES))) <= told


def test_each_reason_for_503_has_an_alert_of_its_own() -> None:
    """A read-only database is down too, for the service, and only one of the two alerts fires."""
    by_name = {rule["alert"]: rule["expr"] for rule in RULES}
    read_only = by_name["DaybookDatabaseReadOnly"]
    assert by_name["DaybookDatabaseDown"] == f"min(daybook_database_up) == 0 unless {read_only}"
    assert metrics(by_name["DaybookDiskFull"]) == {"daybook_database_errors_total"}
    assert 'sqlstate="53100"' in by_name["DaybookDiskFull"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    assert set(rule["annotations"]) == {"summary", "action", "runbook"}


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.yml")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_settings_can_be_read(path: Path) -> None:
    assert yaml.safe_load(path.read_text())


def test_every_image_and_every_variable_has_a_place_in_the_example() -> None:
    example = (ROOT / "compose.env.example").read_text()
    for service in yaml.safe_load(COMPOSE)["services"].values():
        assert re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[^}]+:[^}]+\}", service["image"])
    for variable in re.findall(r"\$\{(\w+)", COMPOSE):
        assert re.search(rf"^#?{variable}=", example, re.MULTILINE), variable


SERVICES = yaml.safe_load(COMPOSE)["services"]
SECRET_SETTINGS = {
    "DATABASE_URL": "database_url",
    "JWT_SECRET": "jwt_secret",
    "DAYBOOK_SIGNING_KEY": "daybook_signing_key",
}
SECRETS = yaml.safe_load(COMPOSE)["secrets"]
NOT_MADE = "daybook_signing_key"
"""The secret that the service does without."""


def test_every_setting_reaches_the_service() -> None:
    given = set(SERVICES["api"]["environment"])
    assert set(VARIABLES) - given == {
        "DATABASE_URL_DIRECT",  # the migration's
        "DAYBOOK_DATA_DIR",  # the embedded Postgres's
        "BETTER_AUTH_SECRET",  # another name of JWT_SECRET
        *SECRET_SETTINGS,
    }
    assert SERVICES["api"]["secrets"] == list(SECRET_SETTINGS.values())


def test_every_setting_of_the_example_reaches_a_container() -> None:
    example = re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    reaching = {*SERVICES["api"]["environment"], *(name.upper() for name in SECRETS)}
    assert {name for name in example if name.removesuffix("_FILE") not in reaching} == {"DAYBOOK_DATA_DIR"}


def test_without_a_key_the_service_is_given_an_empty_file() -> None:
    """The container's runtime refuses a file that isn't there, and the service takes an empty one for none."""
    [(variable, default)] = re.findall(r"\$\{(\w+):-([^}]+)\}", SECRETS[NOT_MADE]["file"])
    assert (variable, (ROOT / default).read_bytes()) == ("DAYBOOK_SIGNING_KEY_FILE", b"")


def test_no_password_is_in_an_environment() -> None:
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert name == "POSTGRES_PASSWORD_FILE" or not re.search("PASSWORD|SECRET|DATABASE_URL", name)


def test_the_secrets_are_those_that_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    making = [ROOT / "deploy" / "secrets.sh", folder]
    subprocess.run(making, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in SECRETS.keys() - {NOT_MADE}:
        assert SECRETS[name]["file"].startswith("${SECRETS:-./secrets}/")
        assert name in made
    assert f":{made['postgres_password']}@" in made["database_url_direct"]
    assert len(set(re.findall("[0-9a-f]{48}", "".join(made.values())))) == 3
    again = subprocess.run(making, check=False, capture_output=True)
    assert (again.returncode, {path.name: path.read_text() for path in folder.iterdir()}) == (0, made)


@pytest.mark.parametrize("failing", ["exit 1", "kill -INT 0", "kill -TERM 0"])
def test_secrets_are_made_all_or_none(tmp_path: Path, failing: str) -> None:
    openssl = tmp_path / "openssl"
    openssl.write_text(f'#!/bin/sh\n[ -e "$0.once" ] && {{ {failing}; sleep 5; }}\ntouch "$0.once"; echo 00\n')
    openssl.chmod(0o700)
    made = tmp_path / "made"
    made.mkdir()
    making = [ROOT / "deploy" / "secrets.sh", made / "secrets"]
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    cut = subprocess.run(making, env=path, check=False, capture_output=True, start_new_session=True)
    assert (cut.returncode != 0, list(made.iterdir())) == (True, [])
    subprocess.run(making, check=True, capture_output=True)
    assert len(list((made / "secrets").iterdir())) == 6


@pytest.mark.parametrize("service", SERVICES)
def test_every_container_has_bounds(service: str) -> None:
    assert {"mem_limit", "pids_limit", "logging", "networks"} <= set(SERVICES[service])


def test_only_the_api_is_in_the_network_of_proxies() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert {name for name, its in networks.items() if "front" in its} == {"api"}
    with_database = {name for name, its in networks.items() if "database" in its and not name.startswith("citus")}
    assert with_database == {"api", "migrate", "pgbouncer", "postgres"}
    assert networks["postgres"] == {"database"}
    assert yaml.safe_load(COMPOSE)["networks"]["database"] == {"internal": True}


def test_uv_is_the_same_wherever_it_is_installed() -> None:
    pinned = {*re.findall(r"uv==([\d.]+)", (ROOT / "Dockerfile").read_text())}
    assert pinned == {*re.findall(r"^UV_VERSION := ([\d.]+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)}
    assert len(pinned) == 1
