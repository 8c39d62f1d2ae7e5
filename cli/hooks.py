"""``backups hook``: commands of the operator's own, run before and after an app is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App

from cli.api import prefect_api
from cli.output import note
from cli.saved import Repeated, add_verbs, made
from vault.errors import ConfigError
from vault.store import absolute, check_name

hook_app = App(
    name="hook",
    help="Commands that are run before and after an app is read: Prefect's Shell Operations.",
    version_flags=[],
)
add_verbs(hook_app, "hook")


@hook_app.command(name="add")
def add_hook(
    name: str,
    /,
    *,
    command: Annotated[list[str], Repeated],
    directory: Path | None = None,
) -> None:
    """Save commands, to be run on the worker by bash, as the worker's user. One that fails ends the hook.

    Example: backups hook add shop-down --command 'touch /srv/shop/maintenance'

    Parameters
    ----------
    name
        The name of the hook.
    command
        A line of shell. Repeatable. It sees BACKUPS_APP, BACKUPS_ID, BACKUPS_TYPE and, after the reading, BACKUPS_READ
        (whole or failed). Commands are no place for secrets: everybody who reaches Prefect can read them.
    directory
        Where they are run.
    """
    check_name(name, "hook")
    with prefect_api():
        from prefect_shell import ShellOperation

        from blocks.hook import HOOK_SLUG
        from blocks.loading import missing

        if not missing(f"{HOOK_SLUG}/{name}"):
            raise ConfigError(f"hook {name} is saved already", f"Remove it first: backups hook remove {name}")
        place = absolute(str(directory)) if directory else None
        made(ShellOperation, commands=command, working_dir=place).save(name)
    note(f"Saved hook {name}. Name it in an app: backups app update APP --before {name}")
