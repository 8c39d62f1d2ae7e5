"""The systemd units of ``deployments/``, read as systemd reads them, so that tests run what they say."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deployments/systemd").iterdir())
INSTALLED = "/opt/prefect-backups"


def settings(unit: str, name: str, instance: str = "") -> list[str]:
    """What *unit* sets *name* to, in order; ``%i`` is *instance*."""
    lines = (ROOT / "deployments/systemd" / unit).read_text().splitlines()
    found = [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]
    whole = unit.replace("@.", f"@{instance}.")
    return [value.replace("%n", whole).replace("%i", instance).replace("%H", "test") for value in found]


def command(unit: str, instance: str = "") -> list[str]:
    """Its ``ExecStart``, as it runs from this checkout."""
    (line,) = settings(unit, "ExecStart", instance)
    program, *arguments = shlex.split(line.replace(f"{INSTALLED}/deployments", f"{ROOT}/deployments"))
    if not program.startswith(INSTALLED):
        return [program, *arguments]
    name = Path(program).relative_to(f"{INSTALLED}/.venv/bin").name
    return [sys.executable, "-m", {"backups": "cli"}.get(name, name), *arguments]


def environment(unit: str, secrets: Path) -> dict[str, str]:
    """What it sets in the environment, the files with secrets taken from the directory *secrets*."""
    own = dict(pair.split("=", 1) for line in settings(unit, "Environment") for pair in shlex.split(line))
    for name in settings(unit, "EnvironmentFile"):
        path = Path(name)
        here = ROOT / path.relative_to(INSTALLED) if path.is_relative_to(INSTALLED) else secrets / path.name
        own.update(variables(here))
    return own


def variables(path: Path) -> dict[str, str]:
    """What an environment file sets."""
    return dict(pairs(path.read_text()))


def pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value
