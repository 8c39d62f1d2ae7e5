"""Public keys that this machine has seen sign its backups, one per line: what ``known_hosts`` is to SSH.

The keys are no secret. The file lets ``list`` and ``restore`` judge records where no Prefect API is to be had.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from vault.errors import ConfigError

_KEY = re.compile(r"[0-9a-f]{64}")


def default_path() -> Path:
    """``$PREFECT_HOME/backups/known-signers``; it goes where the Prefect database goes."""
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    return Path(home).expanduser() / "backups" / "known-signers"


def read(path: Path) -> frozenset[str]:
    """The public keys in *path*; none where there is no file."""
    try:
        lines = path.read_text().split()
    except FileNotFoundError:
        return frozenset()
    for line in lines:
        if not _KEY.fullmatch(line):
            raise ConfigError(f"{path} holds a line that is no public key", "Remove that line, then try again.")
    return frozenset(lines)


def add(path: Path, public_key: str) -> None:
    """Remember *public_key*; one write of one line, so that several writers do no harm."""
    if public_key in read(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("a") as file:
        file.write(f"{public_key}\n")
