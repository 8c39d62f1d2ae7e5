"""Debian's Chromium on a real console, over a Prefect server and a worker of the module's own.

Whatever a page asks of another host, every error in the browser's console (what the content security policy stops is
one) and every exception in a script fails the test. Playwright keeps an event loop in this thread, so nothing here
calls Prefect: what a test needs is set up with the ``backups`` command.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, sync_playwright

from cli.api import free_port
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.prefect_worker import said, until, worker

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
PATIENCE = 300_000.0  # milliseconds; the machine may be busy
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@dataclass
class Desk:
    """A console at *url* on a *machine*, and a browser before it."""

    machine: Machine
    url: str
    browser: Browser
    contexts: list[BrowserContext] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def sit(self, path: str = "/", **options: Any) -> Page:
        """A new page of a browser that remembers nothing, at *path*; *options* are those of a Playwright context."""
        context = self.browser.new_context(**{"base_url": self.url, "viewport": DESK, **options})
        context.set_default_timeout(PATIENCE)
        context.on("request", self._asked)
        context.on("console", self._logged)
        context.on("weberror", lambda error: self.wrong.append(f"exception: {error.error}"))
        self.contexts.append(context)
        page = context.new_page()
        page.goto(path)
        return page

    def leave(self) -> None:
        """Close all that is open; fails if anything was wrong meanwhile."""
        for context in self.contexts:
            context.close()
        found, self.contexts, self.wrong = self.wrong, [], []
        assert not found, "\n".join(found)

    def _asked(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.hostname != "127.0.0.1":
            self.wrong.append(f"asked {request.url}")

    def _logged(self, message: ConsoleMessage) -> None:
        refused = message.text.startswith("Failed to load resource: the server responded with a status of 4")
        if message.type == "error" and not refused:  # that a form was not accepted is no error of the page
            self.wrong.append(f"{message.type}: {message.text}")


@contextmanager
def console(machine: Machine, factory: str = "console.api:create") -> Iterator[str]:
    """The address of a console in a process of its own, without a login, on loopback."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "--factory", factory, "--port", str(port), "--log-level", "warning"]
    with (machine.home / "console").open("ab") as output:
        process = subprocess.Popen(argv, env=machine.environment(), stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (machine.home / "console").read_text()
        try:
            with urlopen(f"{url}/static/console.css"):  # noqa: S310 - our own
                return True
        except URLError:
            return False

    try:
        until(answers)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Headless, with a user data directory of its own, that asks nobody for anything."""
    browser = playwright.chromium.launch(
        executable_path=CHROMIUM, args=list(ARGUMENTS), headless=True, timeout=PATIENCE
    )
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a Prefect server, at which everything is registered, and a worker that looks for runs."""
    place = tmp_path_factory.mktemp("console")
    (place / "home").mkdir()
    with prefect_server(place / "server", {"PREFECT_UI_ENABLED": "1"}) as url:
        machine = Machine(place / "home", url)
        machine.run("register")
        with worker(machine, "console"):
            yield machine
        assert "Traceback" not in said(machine), said(machine)


@pytest.fixture(scope="module")
def all_day(machine: Machine) -> Iterator[Desk]:
    """One console and one browser for all tests of a module."""
    with ExitStack() as stack:
        url = stack.enter_context(console(machine))
        browser = stack.enter_context(chromium(stack.enter_context(sync_playwright())))
        yield Desk(machine, url, browser)


@pytest.fixture
def desk(all_day: Desk) -> Iterator[Desk]:
    """The same for one test, which fails if anything was wrong in the browser."""
    yield all_day
    all_day.leave()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is shown now, by WCAG 2 A and AA."""
    page.evaluate(AXE_SCRIPT)
    options = json.dumps({"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]})
    found = page.evaluate(f"axe.run({options})")["violations"]
    return [
        f"{page.url}: {one['id']}: {one['help']}: {node['html']} {node.get('failureSummary', '')}"
        for one in found
        for node in one["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than what it is shown in."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wide


def picture(page: Page, path: Path) -> None:
    """The whole page, as PNG."""
    page.screenshot(path=path, full_page=True)
