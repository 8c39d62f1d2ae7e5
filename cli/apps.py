"""``backups app``: what is backed up together, and where to."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App

from cli.api import prefect_api
from cli.output import note
from cli.saved import Repeated, add_verbs

app_app = App(name="app", help="What is backed up together, and where to.", version_flags=[])
add_verbs(app_app, "app")


@app_app.command(name="add")
def add_app(
    name: str,
    /,
    *,
    source: Annotated[list[str], Repeated],
    to: Annotated[list[str] | None, Repeated] = None,
    encrypt_to: Annotated[list[str] | None, Repeated] = None,
    compression: Literal["zstd", "gzip", "none"] | None = None,
    keep_last: int | None = None,
) -> None:
    """Save an app.

    Example: backups app add shop --source shop-db --source /srv/shop/uploads --to disk

    Parameters
    ----------
    name
        The name of the app.
    source
        A saved source, or a database URL, an SQLite file or a directory. Repeatable.
    to
        A saved destination, or a directory. Repeatable.
    encrypt_to
        An age recipient (age1…). Repeatable.
    compression
        How its backups are compressed; default zstd.
    keep_last
        Keep so many backups of each type at each destination; default all.
    """
    with prefect_api():
        from cli.adhoc import Wanted, save_app

        save_app(name, Wanted(source, to or [], encrypt_to or [], compression, keep_last))
    note(f"Saved app {name}. Back it up with: backups run {name}")
