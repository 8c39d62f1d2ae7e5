"""This machine: what is installed, and room for spools."""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from importlib.metadata import version as installed
from pathlib import Path

from packaging.requirements import Requirement

from deployments.checks.finding import Finding, ok, warning, wrong
from tasks.limits import limits
from vault.units import human
from vault.workspace import Workspace, default_root

_PROJECT = "prefect-backups"
_CHECKOUT = Path(__file__).resolve().parents[2] / "pyproject.toml"
_LEAST = 256 * 1024**2
"""Bytes: a spool of a few segments for each of a few sources. With less, a run mostly waits."""


def packages() -> Iterator[Finding]:
    """What is installed is what this project was tested with."""
    bad = [problem for text in _required() if (problem := _misfit(Requirement(text)))]
    for problem in bad:
        yield wrong("packages", problem, "pip install -r requirements.lock")
    if not bad:
        yield ok("packages", f"as {_PROJECT} {installed(_PROJECT)} needs them")


def _required() -> list[str]:
    """What this project needs; of a checkout, what it says now, not when it was installed."""
    if _CHECKOUT.is_file():
        project = tomllib.loads(_CHECKOUT.read_text())["project"]
        if project["name"] == _PROJECT:
            return [*project["dependencies"]]
    return requires(_PROJECT) or []


def _misfit(wanted: Requirement) -> str:
    if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
        return ""
    try:
        found = installed(wanted.name)
    except PackageNotFoundError:
        return f"{wanted.name} is not installed"
    fits = wanted.specifier.contains(found, prereleases=True)
    return "" if fits else f"{wanted.name} {found} is installed, and {wanted} is needed"


def work_directory() -> Iterator[Finding]:
    """Spools can be made, and there is room for them."""
    root, wanted = default_root(), limits().spool
    Workspace(root, "doctor").remove()
    free = shutil.disk_usage(root).free
    said, remedy = f"{root} has {human(free)} free", "export BACKUPS_WORK_DIR=/a/larger/disk, here and for each worker"
    if free < _LEAST:
        yield wrong("work directory", f"{said}: too little for a run", remedy)
    elif free < wanted:
        yield warning("work directory", f"{said}, less than the {human(wanted)} that a run may use: dumps wait", remedy)
    else:
        yield ok("work directory", said)
