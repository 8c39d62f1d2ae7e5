"""``backups destination``: where backups go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App

from cli.api import prefect_api
from cli.saved import Flag, add_verbs, made, save
from vault.store import absolute, check_name

destination_app = App(name="destination", help="Where backups go.", version_flags=[])
_add_destination = App(name="add", help="Save a destination, after a test of it.", version_flags=[])
destination_app.command(_add_destination)
add_verbs(destination_app, "destination")


@_add_destination.command(name="local")
def add_local(name: str, root: Path, /, *, no_test: Annotated[bool, Flag] = False) -> None:
    """Save a local directory as a destination, and mark it, so that a missing disk is noticed.

    Example: backups destination add local disk /mnt/backups

    Parameters
    ----------
    name
        The name of the destination.
    root
        The directory; made when it does not exist.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.destinations import LocalDestination

        check_name(name, "destination")
        block = made(LocalDestination, root=absolute(str(root)))
        block.prepare()
        save("destination", name, block, no_test)
