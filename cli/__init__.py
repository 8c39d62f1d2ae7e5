"""The ``backups`` command: thin, one file per noun. Prefect is imported only where it is needed."""

from __future__ import annotations

import os
import sys

from cyclopts import App, CycloptsError

from cli import (
    apps,
    console,
    copy_backup,
    destinations,
    doctor,
    hooks,
    keys,
    lists,
    marks,
    notify,
    prune,
    register,
    restore,
    run,
    schedules,
    servers,
    sources,
    sync_catalog,
    up,
    watch,
    worker,
)
from cli.demo import demo
from cli.output import note
from vault.errors import BackupError, ConfigError, printable

_HELP = """Backups of databases and files: proven, encrypted, restorable without us.

Start with: backups demo

Every command has --help. --debug shows a traceback when something fails.
"""

app = App(name="backups", help=_HELP, help_format="plaintext", version_flags=[])
app.command(demo)
app.command(run.run)
app.command(lists.list_backups, name="list")
app.command(lists.show)
app.command(restore.restore)
app.command(copy_backup.copy)
app.command(prune.prune)
app.command(marks.pin)
app.command(marks.unpin)
app.command(marks.confirm)
app.command(sources.source_app)
app.command(apps.app_app)
app.command(hooks.hook_app)
app.command(servers.server_app)
app.command(destinations.destination_app)
app.command(schedules.schedule_app)
app.command(notify.notify_app)
app.command(sync_catalog.sync_catalog)
app.command(keys.keys_app)
app.command(watch.watch)
app.command(doctor.doctor)
app.command(up.up)
app.command(console.console_app)
app.command(worker.worker)
app.command(register.register)


def main() -> None:
    """Run the command line; exit 0 for success only, 1 when it failed, 2 for bad usage."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        sys.exit(_run(arguments))
    except BackupError as error:
        if debug:
            raise
        _say(error)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except KeyboardInterrupt:
        note("backups: interrupted; nothing that was complete is lost")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if _is_lost_connection(error):
            _leave_at_once(error)
        note(f"backups: {type(error).__name__}: {printable(str(error))[:500]}")
        note("  This is not an error we expected. Run it again with --debug, and report what it shows.")
        sys.exit(1)


def _is_lost_connection(error: Exception) -> bool:
    httpx = sys.modules.get("httpx")
    return httpx is not None and isinstance(error, httpx.TransportError)


def _leave_at_once(error: Exception) -> None:
    """Prefect's own exit handlers would look for the lost API for minutes."""
    note(f"backups: Prefect's API was lost on the way: {printable(str(error))[:200]}")
    note("  What was committed is good: see `backups list --from DEST`. Start the API again, then repeat the command.")
    sys.stdout.flush()
    os._exit(1)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise ConfigError(printable(str(error).strip()), "See `backups --help`.") from error
    return code if isinstance(code, int) else 0


def _say(error: BackupError) -> None:
    note(f"backups: {error.message}")
    for line in error.remedy.splitlines():
        note(f"  {line}")
