"""An empty database of Prefect's, brought to its version when this is set up: a first start copies it.

Prefect's own migrations take ten to twenty seconds of a first start. ``bin/_setup.sh`` runs this module to have them
done once for each installed version; where that failed, the first start does them as it always did.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def template() -> Path:
    """Where it lies: with the installed Prefect whose version it has."""
    return Path(sys.prefix) / "share" / "prefect-backups" / f"prefect-{version('prefect')}.db"


def copy_template(database: Path) -> bool:
    """Make *database* from the template, whole or not at all; False where it exists, or there is no template."""
    if database.exists() or not template().exists():
        return False
    database.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(prefix=f".{database.name}.", dir=database.parent)
    try:
        with open(handle, "wb") as copy, template().open("rb") as original:
            shutil.copyfileobj(original, copy)
        with suppress(FileExistsError):  # another command was quicker
            os.link(draft, database)
    finally:
        os.unlink(draft)
    return True


def make() -> None:
    """Make the template, in place of one that is there."""
    template().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=template().parent) as home:
        os.environ["PREFECT_HOME"] = home
        os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{home}/prefect.db"
        import asyncio

        from prefect.server.database import provide_database_interface

        asyncio.run(provide_database_interface().create_db())
        os.replace(Path(home) / "prefect.db", template())
