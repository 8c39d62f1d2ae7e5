"""``backups console``: the web console with its REST API, and who may use it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from cli.api import START_TIMEOUT, end_server, prefect_api
from cli.console_access import token_app, user_app
from cli.home import own_files
from cli.saved import Flag, Repeated
from vault.errors import BackupError
from vault.process import tied_to_us

PORT = 4280
_PortNumber = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]
_NAP = 0.05

console_app = App(name="console", help="The web console with its REST API, and who may use it.", version_flags=[])
console_app.command(user_app)
console_app.command(token_app)


@console_app.default
def console(
    *,
    host: str = "127.0.0.1",
    port: _PortNumber = PORT,
    proxy: Annotated[list[str] | None, Repeated] = None,
    login: Annotated[bool, Flag] = False,
) -> int:
    """Serve the console, until SIGTERM or Ctrl-C. `backups up` has it too.

    Example: backups console

    Without an account there is no login, and it serves this machine only. Make the first account before you let it
    listen elsewhere: backups console user add NAME --scope admin

    Parameters
    ----------
    host
        The address to listen on. Others than this machine's own take an account, and HTTPS before it.
    port
        Its port; 0 takes a free one.
    proxy
        The address of a proxy before it, whose word on who asks is believed. Repeatable.
    login
        Ask for a login on this machine too: as long as there is no account, nobody gets in.
    """
    signal.signal(signal.SIGTERM, _stop)
    with prefect_api():
        child = start_console(host, port, proxy or [], login)
        try:
            return child.wait()
        except (KeyboardInterrupt, _Stop):
            return 0
        finally:
            end_server(child)


def start_console(
    host: str, port: int, proxies: list[str], login: bool, log: Path | None = None
) -> subprocess.Popen[bytes]:
    """The console in a process of its own, ended with us; what it says goes to *log*, or to our stderr."""
    options = [*(f"--proxy={proxy}" for proxy in proxies), *(["--login"] if login else [])]
    command = [sys.executable, "-m", "console", f"--host={host}", f"--port={port}", *options]
    output = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            [*tied_to_us("TERM"), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=Path(__file__).parent.parent,
            env={**os.environ, "DO_NOT_TRACK": "1"},
        )
    finally:
        if output:
            output.close()


def wait_for_console(port: int, child: subprocess.Popen[bytes]) -> None:
    """Return when it answers at *port* of this machine; ``BackupError`` when it ends or does not come."""
    deadline = time.monotonic() + START_TIMEOUT
    while child.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(_NAP)
        else:
            return
    raise BackupError("the console did not start", f"See {own_files() / 'console.log'} for its reason.")


class _Stop(BackupError):
    pass


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise _Stop("ended")
