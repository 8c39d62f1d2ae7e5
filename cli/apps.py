"""``backups app``: what is backed up together, and where to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.output import note
from cli.own_database import key_advice, own_source, refuse_unknown_database
from cli.saved import Repeated, add_verbs
from vault.errors import ConfigError

app_app = App(name="app", help="What is backed up together, and where to.", version_flags=[])
add_verbs(app_app, "app")

OnError = Literal["fail", "continue"]


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """What may be said of an app besides its sources and destinations.

    Parameters
    ----------
    encrypt_to
        An age recipient (age1…). Repeatable.
    compression
        How its backups are compressed; at first zstd.
    keep_last
        Keep so many backups of each type at each destination; at first all.
    parallel
        Read so many of its sources at once: first of its databases, then of its files; at first 2.
    before
        A hook that is run before the first source is read, see `backups hook`; '' for none.
    before_timeout
        Seconds after which that is killed; at first 300.
    before_on_error
        Whether the backup fails with it (at first), or continues and says so.
    after
        A hook that is run when the last source was read, and also when reading failed; '' for none.
    after_timeout
        Seconds after which that is killed; at first 300.
    after_on_error
        Whether the run fails with it (at first), or continues; the backup is kept.
    consistent
        Hold its containers still while it is read; at first not. Databases that are sources have to run on.
    container
        A container to hold still; at first those that use its Docker volumes. Repeatable.
    containers_on
        The saved server of these containers; at first that of its sources.
    hold
        Whether they are stopped (at first) or paused.
    most_seconds_down
        Seconds after which they are had back in any case; at first 3600.
    """

    encrypt_to: Annotated[list[str] | None, Repeated] = None
    compression: Literal["zstd", "gzip", "none"] | None = None
    keep_last: int | None = None
    parallel: int | None = None
    before: str | None = None
    before_timeout: float | None = None
    before_on_error: OnError | None = None
    after: str | None = None
    after_timeout: float | None = None
    after_on_error: OnError | None = None
    consistent: bool | None = None
    container: Annotated[list[str] | None, Repeated] = None
    containers_on: str | None = None
    hold: Literal["stop", "pause"] | None = None
    most_seconds_down: float | None = None


@app_app.command(name="add")
def add_app(
    name: str,
    /,
    *,
    source: Annotated[list[str] | None, Repeated] = None,
    to: Annotated[list[str] | None, Repeated] = None,
    own: Annotated[bool, Parameter(name="--self", negative=())] = False,
    options: Options | None = None,
) -> None:
    """Save an app.

    Example: backups app add shop --source shop-db --source /srv/shop/uploads --to disk

    Parameters
    ----------
    name
        The name of the app.
    source
        A saved source, postgresql://user@host/database, an SQLite file or a directory. Repeatable.
    to
        A saved destination, or a directory. Repeatable.
    own
        Prefect's own database is a source of it: all apps, schedules, passwords and the history of runs.
    """
    if own:
        refuse_unknown_database()
    elif not source:
        raise ConfigError("no source is named", "Add --source, with a saved source, a database URL, a file or a path.")
    with prefect_api():
        from cli.adhoc import Wanted, save_app

        sources = [*(source or []), *([own_source(name)] if own else [])]
        save_app(name, Wanted(sources, to or [], asdict(options or Options())))
    note(f"Saved app {name}. Back it up with: backups run {name}")
    if own:
        note(f"  {key_advice()}")


@app_app.command(name="update")
def update_app(
    name: str,
    /,
    *,
    source: Annotated[list[str] | None, Repeated] = None,
    to: Annotated[list[str] | None, Repeated] = None,
    options: Options | None = None,
) -> None:
    """Change a saved app. What is not given stays as it is.

    Example: backups app update shop --source shop-db --source shop-uploads --source /etc/shop

    Parameters
    ----------
    name
        The name of the app.
    source
        All sources that it has from now on. Repeatable.
    to
        All destinations that it has from now on. Repeatable.
    """
    with prefect_api():
        from cli.adhoc import Wanted, change_saved_app

        change_saved_app(name, Wanted(source or [], to or [], asdict(options or Options())))
    note(f"Saved app {name}. Back it up with: backups run {name}")
