"""The templates in ``deployments/``: what they name exists, as far as that can be seen without running them."""

from __future__ import annotations

import importlib
import shutil
import stat
import subprocess
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import yaml
from cyclopts import App
from prefect.blocks.core import Block
from prefect.cli._app import _app as prefect_app
from prefect.utilities.dispatch import lookup_type

import cli
from console.keeper import is_loopback
from deployments.register import block_types
from tests.peers.postgres import MissingPeer
from tests.peers.units import ROOT, UNITS, command, environment, settings, variables

COMPOSE = ROOT / "deployments/compose/compose.yaml"
_OURS = {
    "BACKUPS_WORK_DIR",
    "BACKUPS_LISTEN",
    "BACKUPS_SERVERS",
    "BACKUPS_CONSOLE_LISTEN",
    "BACKUPS_CONSOLE",
    "DO_NOT_TRACK",
    "HOME",
    "PYTHONTZPATH",
}
_NOT_A_SETTING = {"PREFECT_SERVER_ENCRYPTION_KEY"}  # read from the environment alone
_POSTGRES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD"}
_REDIS = {"PREFECT_REDIS_MESSAGING_URL", "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL"}  # of prefect-redis


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New secrets."""
    place = tmp_path_factory.mktemp("etc") / "secrets"
    subprocess.run([ROOT / "deployments/new-secrets", place], check=True)
    return place


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def commands() -> list[list[str]]:
    """All command lines of ours and of Prefect in the templates, without the program's path."""
    units = [command(unit.name, "4201")[2:] for unit in UNITS if unit.suffix == ".service"]
    units = [line for line in units if line[0] in ("prefect", "cli")]
    words = [service["command"] for service in services().values() if "command" in service]
    return units + [line for line in words if line[0] in ("prefect", "backups")]


@pytest.mark.parametrize("line", commands(), ids=" ".join)
def test_each_command_takes_each_option_that_it_is_given(line: list[str]) -> None:
    known: dict[str, App] = {"prefect": prefect_app, "cli": cli.app, "backups": cli.app}
    _, bound, _ = known[line[0]].parse_args(line[1:], exit_on_error=False, print_error=False)
    assert bound is not None


def test_a_misspelt_option_would_be_found() -> None:
    with pytest.raises(Exception, match="servces"):
        prefect_app.parse_args(["server", "start", "--no-servces"], exit_on_error=False, print_error=False)


def test_each_variable_is_one_that_somebody_reads(secrets: Path) -> None:
    names = {name for unit in UNITS for name in environment(unit.name, secrets)}
    names |= {name for service in services().values() for name in service.get("environment", {})}
    for file in ("server.env", "client.env", "postgres.env"):
        names |= set(variables(secrets / file))
    assert len(names) > 15
    for name in names - _OURS - _POSTGRES - _REDIS - _NOT_A_SETTING:
        assert hasattr(prefect.settings, name), f"Prefect has no setting {name}"


def test_each_module_that_is_named_is_there() -> None:
    modules = [value for value in variables(ROOT / "deployments/prefect.env").values() if value.startswith("prefect_")]
    assert len(modules) == 5
    for name in modules:
        importlib.import_module(name)


def test_secrets_are_new_and_only_for_their_owner_and_never_replaced(secrets: Path, tmp_path: Path) -> None:
    subprocess.run([ROOT / "deployments/new-secrets", tmp_path], check=True)
    for file in secrets.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.name == "alarm.env" or file.read_text() != (tmp_path / file.name).read_text()
    before = {file: file.read_text() for file in tmp_path.iterdir()}
    again = subprocess.run([ROOT / "deployments/new-secrets", tmp_path], capture_output=True, text=True)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert {file: file.read_text() for file in tmp_path.iterdir()} == before


def test_the_units_are_what_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        raise MissingPeer("the tests need systemd-analyze: apt-get install -y systemd")
    names = []
    for unit in UNITS:  # where nothing is installed: with another program
        text = "\n".join(
            "ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in unit.read_text().splitlines()
        )
        (tmp_path / unit.name).write_text(text)
        names.append(unit.name.replace("@.", "@4201."))
    done = subprocess.run(["systemd-analyze", "verify", *names], cwd=tmp_path, capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_stopping_the_worker_leaves_it_its_patience_and_a_minute(secrets: Path) -> None:
    patience = command("backups-worker@.service")[-1]
    assert float(settings("backups-worker@.service", "TimeoutStopSec")[0]) >= float(patience) + 60
    assert settings("backups-worker@.service", "KillMode") == ["mixed"]
    worker = services()["worker"]
    assert float(worker["stop_grace_period"].removesuffix("s")) >= float(worker["command"][-1]) + 60


def test_the_console_is_open_to_nobody_without_a_login() -> None:
    unit, service = command("backups-console.service"), services()["console"]
    assert unit[3:] == ["console", "--host", "127.0.0.1", "--port", "4280", "--proxy", "127.0.0.1", "--login"]
    assert "ports" not in service, "it is reached through caddy alone"
    assert not is_loopback(service["command"][service["command"].index("--host") + 1]), "which takes an account"


def test_what_the_compose_file_refers_to_is_defined_in_it(secrets: Path) -> None:
    whole, every = yaml.safe_load(COMPOSE.read_text()), services()
    networks = {name for one in every.values() for name in one["networks"]}
    named = {volume.split(":")[0] for one in every.values() for volume in one.get("volumes", [])}
    assert networks == set(whole["networks"])
    assert {name for name in named if not name.startswith(".")} == set(whole["volumes"])
    for one in every.values():
        assert set(one.get("depends_on", {})) <= set(every)
        files = [*one.get("env_file", []), *(v.split(":")[0] for v in one.get("volumes", []) if v.startswith("."))]
        for file in map(Path, files):
            assert (secrets / file.name if "secrets" in file.parts else COMPOSE.parent / file).is_file(), file
        assert one["image"] == "prefect-backups" or ":" in one["image"]
    build = every["migrate"]["build"]
    assert (COMPOSE.parent / build["context"] / build["dockerfile"]).is_file()


def test_docker_compose_takes_the_file_and_all_that_it_refers_to(secrets: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments")
    shutil.copytree(secrets, tmp_path / "deployments/compose/secrets")
    place = tmp_path / "deployments/compose"
    done = subprocess.run(["docker-compose", "config"], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = yaml.safe_load(done.stdout)["services"]
    assert set(found) == set(services())
    key = "PREFECT_SERVER_ENCRYPTION_KEY"
    assert {name for name, one in found.items() if key in one.get("environment", {})} == {
        *("api-1", "api-2", "migrate", "services")
    }, "who has the key of all secrets"


def test_no_block_of_an_integration_that_we_recommend_takes_the_place_of_ours() -> None:
    for collection in entry_points(group="prefect.collections"):
        collection.load()
    for kind in block_types():
        assert lookup_type(Block, kind.get_block_type_slug()) is kind
