"""What all tests share: a machine that is not the developer's, and one Prefect API for those that need it."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.peers.certificate import self_signed

pytest_plugins = ["tests.faults", "tests.reduced"]

_home = Path(tempfile.mkdtemp(prefix="backups-tests-"))


def pytest_configure(config: pytest.Config) -> None:
    """Isolate before any test module is imported: Prefect reads its environment while it is imported."""
    # Whoever starts us in the background has Ctrl-C ignored, and so would be each command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "docs: runs what the documentation shows")
    # Cores are shared and noisy: a deadline would measure the neighbours. CI tries the same examples each time.
    hypothesis.settings.register_profile("shared", deadline=None, derandomize="CI" in os.environ)
    hypothesis.settings.load_profile("shared")
    for name in [
        name for name in os.environ if name.startswith(("PREFECT_", "BACKUPS_", "PG", "XDG_", "AWS_", "DOCKER_"))
    ]:
        del os.environ[name]
    os.environ.update(
        HOME=str(_home),
        PREFECT_HOME=str(_home / "prefect"),
        XDG_CONFIG_HOME=str(_home / "config"),
        XDG_DATA_HOME=str(_home / "data"),
        XDG_STATE_HOME=str(_home / "state"),
        XDG_CACHE_HOME=str(_home / "cache"),
        BACKUPS_RETRY_DELAY="0.05",
        DO_NOT_TRACK="1",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # Each client of Prefect's API, though that speaks HTTP here, would read the more than 100 of certifi.
        PREFECT_API_SSL_CERT_FILE=str(self_signed(_home)),
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED="false",  # each would ask for a token first, which our servers do not have
        TZ="Asia/Kathmandu",  # +05:45: whoever takes local time for UTC is found out
    )
    time.tzset()


def pytest_unconfigure() -> None:
    shutil.rmtree(_home, ignore_errors=True)


@pytest.fixture(scope="session")
def prefect_api() -> Iterator[None]:
    """A Prefect API with an empty database for this session; it takes some seconds to start, so there is one."""
    import prefect.context
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from tests.peers.prefect_server import prefect_server
    from tests.peers.registered import register_once

    with (
        prefect_server(_home / "api") as url,
        # Without heartbeats: each flow would wait for about a second for the thread that sends them.
        temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Threads of Prefect's own begin with these, and would start a server for themselves.
        patch.setattr(prefect.context, "GLOBAL_SETTINGS_CONTEXT", prefect.context.get_settings_context())
        register_once(patch)
        yield
