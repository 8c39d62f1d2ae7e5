"""Where a worker finds the flows: in the installation it runs from, wherever on its machine that lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect.runner.storage import LocalStorage

ROOT = Path(__file__).resolve().parent.parent
"""Of the installation that this code belongs to."""


def this_installation() -> dict[str, str]:
    """A pull step: the flows of the worker's own installation, so that one deployment fits every machine."""
    return {"directory": str(ROOT)}


class ThisInstallation(LocalStorage):
    """The same, for deployments that are made in Python."""

    def __init__(self) -> None:
        super().__init__(str(ROOT))

    def to_pull_step(self) -> dict[str, Any]:
        """As in prefect.yaml."""
        return {f"{__name__}.{this_installation.__name__}": {}}
