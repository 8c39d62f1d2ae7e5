"""What Prefect keeps on this machine, and where; found without importing Prefect, which takes seconds."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

URL_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def prefect_home() -> Path:
    """Where Prefect keeps its database and profiles."""
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def own_files() -> Path:
    """Where we keep ours: ``$PREFECT_HOME/backups``, 0700."""
    return prefect_home() / "backups"


def prefect_setting(name: str) -> str | None:
    """A setting of Prefect, from the environment or else from its active profile."""
    value = os.environ.get(name)
    if value:
        return value
    try:
        profiles = tomllib.loads((prefect_home() / "profiles.toml").read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    found = profiles.get("profiles", {}).get(active, {}).get(name)
    return str(found) if found else None


def database_url() -> str | None:
    """Where Prefect's server keeps everything, if that is set as a URL."""
    names = (URL_VARIABLE, "PREFECT_API_DATABASE_CONNECTION_URL")
    return next(filter(None, map(prefect_setting, names)), None)


def prefect_database() -> Path | None:
    """The SQLite file in which a server that we start keeps everything; None where that is another database."""
    url = database_url()
    if url is None:
        driver = prefect_setting("PREFECT_SERVER_DATABASE_DRIVER") or "sqlite+aiosqlite"
        name = prefect_setting("PREFECT_SERVER_DATABASE_NAME") or prefect_home() / "prefect.db"
        return Path("/", name) if driver.startswith("sqlite") else None
    file = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", url)
    return Path("/", file[1]) if file and ":memory:" not in file[1] else None
