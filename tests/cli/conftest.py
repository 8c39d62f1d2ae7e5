"""The command in this process, at the API of the test session: as quick as its work is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cli


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def command(
    prefect_api: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs ``backups`` with arguments."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    monkeypatch.setenv("BACKUPS_WORK_DIR", str(tmp_path / "work"))

    def run(*arguments: object, code: int | None = 0) -> Done:
        monkeypatch.setattr(sys, "argv", ["backups", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = Done(int(ended.value.code or 0), *capsys.readouterr())
        assert code is None or found.code == code, f"{arguments}: {found.out}\n{found.err}"
        return found

    return run
