"""Which Prefect API a command talks to: a configured one, that of ``backups up``, or Prefect's embedded one.

The embedded API is Prefect's own (ephemeral, SQLite), started by us instead of by its client: at once, while
Prefect is still being imported; tied to our life, so that a killed command leaves no server behind; and closed
to other users of this machine by a password made for this one command.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path

from cli.home import own_files, prefect_database, prefect_setting
from cli.output import note
from cli.template import copy_template
from deployments import POOL as POOL
from vault.errors import BackupError, ConfigError
from vault.process import tied_to_us
from vault.store import is_path

START_TIMEOUT = 120.0
"""Seconds for the embedded API to answer; a first start migrates its database (28 s on 2 cores)."""
_FAREWELL = 10.0
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT = 10_000
_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # after 90 days: the records stay
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "60",  # seconds, as in deployments.automations
    # Time zones are those of the package tzdata. To check one, Prefect asks for all that there are, and Python would
    # open a file of the system for each of them: that was half of what a schedule cost the server.
    "PYTHONTZPATH": "",
}


def up_file() -> Path:
    """Where a running ``backups up`` says how to reach it (0600: it holds the API's password)."""
    return own_files() / "up.json"


def running_up() -> dict[str, str] | None:
    """The environment of a running ``backups up``, None where there is none."""
    try:
        found = json.loads(up_file().read_text())
        os.kill(int(found["pid"]), 0)
        environment = {str(key): str(value) for key, value in found["environment"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return environment if _answers(environment["PREFECT_API_URL"]) else None


def api_in_words() -> str:
    """Which API ``prefect_api`` would take now, for a person; without credentials."""
    configured = prefect_setting("PREFECT_API_URL")
    if configured is not None:
        return f"Prefect's API at {_without_login(configured)}"
    environment = running_up()
    if environment is not None:
        return f"Prefect's API of `backups up`, at {_without_login(environment['PREFECT_API_URL'])}"
    return f"Prefect's embedded API, with the database {prefect_database() or 'that is configured'}"


def _without_login(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def server_known() -> bool:
    """Whether a server answers, so that nothing has to be started."""
    configured = prefect_setting("PREFECT_API_URL")
    return (configured is not None and _answers(configured)) or running_up() is not None


def refuse_running_server() -> None:
    """Pass unless a server runs, here or where Prefect is configured to look for it, that we cannot restart."""
    if running_up() is not None:
        raise ConfigError("`backups up` is running, with the old key", "End it (Ctrl-C), do this, and start it again.")
    configured = prefect_setting("PREFECT_API_URL")
    if configured is not None and _answers(configured):
        raise ConfigError(
            f"Prefect's server at {configured} is running, and this command cannot restart it",
            "On its machine: stop it, unset PREFECT_API_URL, do this, and start it again.",
        )


def api_for(place: str | None) -> AbstractContextManager[None]:
    """The API that a command needs which only looks at *place*: none where that is a path."""
    return nullcontext() if place is not None and is_path(place) else prefect_api()


@contextmanager
def prefect_api() -> Iterator[None]:
    """Within, Prefect's client has an API to talk to."""
    os.environ.update({key: os.environ.get(key, value) for key, value in _DEFAULTS.items()})
    configured = prefect_setting("PREFECT_API_URL")
    if configured is not None:
        if not _answers(configured):
            raise BackupError(
                f"Prefect's API at {configured} does not answer",
                "Start it, or unset it (PREFECT_API_URL, or Prefect's profile) to use Prefect's embedded one.",
            )
        yield
        return
    environment = running_up()
    if environment is not None:
        os.environ.update(environment)
        yield
        return
    with _embedded():
        yield


@contextmanager
def _embedded() -> Iterator[None]:
    port, password = free_port(), f"backups:{secrets.token_hex(16)}"
    own = {"PREFECT_API_AUTH_STRING": password, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    os.environ.update(own)  # first of all: Prefect reads it when it is imported
    server = start_server(port, {**own, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"})
    try:
        import blocks  # noqa: F401 - takes as long as the server's start: side by side

        wait_until_healthy(own["PREFECT_API_URL"], server)
        yield
    finally:
        _drain()
        end_server(server)


def _drain() -> None:
    """Have Prefect's client send what it still holds: logs, and the events that become task runs.

    Left to its own exit handlers it would look for the server that is gone by then, for more than a minute.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=_FAREWELL, at_exit=True)


def end_server(server: subprocess.Popen[bytes]) -> None:
    """End it, and let it write first what it holds."""
    server.terminate()
    try:
        server.wait(timeout=_FAREWELL)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def start_server(port: int, extra: dict[str, str]) -> subprocess.Popen[bytes]:
    """A Prefect API server on 127.0.0.1, ended with us, that has its blocks' key; its output goes to ``server.log``."""
    from cli.encryption_key import lease

    log = own_files() / "server.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = lease()
    database = prefect_database()
    if database is not None and not database.exists() and not copy_template(database):
        note("Setting up Prefect's database; this is needed once and takes about half a minute.")
    environment = {**_DEFAULTS, **os.environ, **key.environment, **extra, "PREFECT__SERVER_FINAL": "1"}
    environment.pop("PREFECT_API_URL", None)
    if "PREFECT_API_AUTH_STRING" in extra:
        environment["PREFECT_SERVER_API_AUTH_STRING"] = extra["PREFECT_API_AUTH_STRING"]
    command = [sys.executable, "-m", "uvicorn", "--factory", "cli.api_server:create_app"]
    where = ["--app-dir", str(Path(__file__).resolve().parents[1]), "--host", "127.0.0.1", "--port", str(port)]
    options = [*where, "--log-level", "warning", "--lifespan", "on"]
    with closing(key), log.open("ab") as output:
        return subprocess.Popen(
            [*tied_to_us(), *command, *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            pass_fds=key.files,
        )


def free_port() -> int:
    """A port on 127.0.0.1 that nobody uses now.

    A server takes seconds until it listens. So it is none of those that the kernel gives to connections meanwhile.
    """
    try:
        first_given = int(_GIVEN_PORTS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first_given = 0
    others = range(_FIRST_PORT, first_given)
    for port in [*(secrets.choice(others) for _ in range(50) if others), 0]:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise BackupError("no port on 127.0.0.1 is free", "See what uses them: ss -tan")


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the API answers; ``BackupError`` when it ends or does not come."""
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(url) or server.poll() is not None:
        if server.poll() is not None or time.monotonic() > deadline:
            raise BackupError("Prefect's API did not start", f"See {own_files() / 'server.log'} for its reason.")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own http url
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code < 500  # somebody answers, if only to ask who we are
    except OSError:
        return False
