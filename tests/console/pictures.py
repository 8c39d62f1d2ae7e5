"""The pictures of the README, made of a real console and Prefect's real UI: ``python -m tests.console.pictures``.

With ``--all DIRECTORY`` pictures of all pages go there, to be looked at: light and dark, for desks and phones.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, Route, expect, sync_playwright

from tests.console.browser import DESK, PATIENCE, PHONE, chromium, console
from tests.peers.command import Machine
from tests.peers.prefect_server import prefect_server
from tests.peers.prefect_worker import begin, ended, worker
from tests.peers.s3 import KEY_ID, SECRET, running_rclone
from vault import known_signers
from vault.record import Artifact, BackupId, BackupRecord, artifact_key, utc
from vault.sealing import seal
from vault.signing import Signer

IMAGES = Path(__file__).parents[2] / "docs/images"
LARGEST = 200_000  # bytes


@dataclass(frozen=True)
class Scene:
    """A console with something to see, and a run in Prefect's UI."""

    url: str
    run: str
    machine: Machine
    browser: Browser


@contextmanager
def scene(place: Path) -> Iterator[Scene]:
    """A server, a worker, and a console with apps that are well, and one that is not."""
    with ExitStack() as stack:
        (place / "home").mkdir()
        api = stack.enter_context(prefect_server(place / "server", {"PREFECT_UI_ENABLED": "1"}))
        machine = Machine(place / "home", api, {"PREFECT_UI_URL": api.removesuffix("/api")})
        machine.run("register")
        bucket = stack.enter_context(running_rclone())
        (place / "secret").write_text(SECRET)
        where = ("--bucket", bucket.new_bucket(), "--endpoint", bucket.endpoint, "--key-id", KEY_ID)
        machine.run("destination", "add", "b2", "offsite", *where, "--secret-file", str(place / "secret"))
        machine.run("destination", "add", "local", "disk", str(place / "disk"))
        stack.enter_context(worker(machine, "office"))
        run = furnish(machine, place)
        url = stack.enter_context(console(machine))
        browser = stack.enter_context(chromium(stack.enter_context(sync_playwright())))
        yield Scene(url, run, machine, browser)


def furnish(machine: Machine, place: Path) -> str:
    """Apps with backups of some weeks; the address of a run in Prefect's UI."""
    key = machine.run("keys", "generate").stdout
    recipient = next(word for word in key.split() if word.startswith("age1"))
    for name, *options in (
        ("shop", "--to", "disk", "--to", "offsite", "--encrypt-to", recipient),
        ("wiki", "--to", "disk", "--to", "offsite", "--encrypt-to", recipient),
        ("mail", "--to", "disk"),
    ):
        files = place / name
        files.mkdir()
        (files / "data.bin").write_bytes(os.urandom(3_000_000))
        machine.run("app", "add", name, "--source", f"{name}-files={files}", *options)
        machine.run("schedule", "add", name, "--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--keep-last", "30")
    history(place / "disk", machine, "shop", 40)
    runs = [begin(machine, "backup/on-demand", app=name) for name in ("wiki", "shop")]
    for run in runs:
        ended(machine, run)
    (place / "mail/data.bin").rename(place / "data.bin")
    (place / "mail").rmdir()
    ended(machine, begin(machine, "backup/on-demand", app="mail"))
    return f"{(machine.api_url or '').removesuffix('/api')}/runs/flow-run/{runs[-1]}"


def history(root: Path, machine: Machine, app: str, days: int) -> None:
    """Records of so many days, one a day; hollow ones."""
    signer, chance = Signer.generate(), random.Random(7)  # noqa: S311 - a drawing
    known_signers.add(machine.home / "prefect/backups/known-signers", signer.public_key)
    for day in range(1, days):
        began = datetime.now(UTC).replace(hour=1, minute=30, second=0, microsecond=0) - timedelta(days=day)
        size = int(2_700_000 + (days - day) * 9_000 + chance.random() * 120_000)
        made = BackupId.new(began, "files")
        artifact = Artifact(
            source=f"{app}-files",
            kind="directory",
            key=artifact_key(app, made, f"{app}-files", "tar.zst.age"),
            size=size,
            sha256="0" * 64,
            plain_size=size * 2,
            plain_sha256="0" * 64,
            compression="zstd",
            recipients=("age1" + "q" * 58,),
            tool="tar (GNU tar) 1.34",
            verified="read-back",
            restore_with="age -d -i KEY.txt < FILE | zstd -d | tar -xp -C TARGET",
        )
        record = BackupRecord(
            id=str(made),
            app=app,
            type="files",
            created_at=utc(began),
            completed_at=utc(began + timedelta(seconds=70 + day % 5 * 9 + chance.randrange(30))),
            producer={"prefect-backups": "0.1.0", "host": "office"},
            artifacts=(artifact,),
        )
        (root / app).mkdir(exist_ok=True)
        with (root / artifact.key).open("wb") as hollow:
            hollow.truncate(size)
        (root / record.key).write_bytes(seal(record, signer))


def shoot(shown: Scene, url: str, to: Path, *, dark: bool = False, phone: bool = False, wait: str = "main") -> None:
    """The page at *url*, once it shows *wait*."""
    scheme = "dark" if dark else "light"
    context = shown.browser.new_context(
        viewport=PHONE if phone else DESK, color_scheme=scheme, timezone_id="Europe/Paris", locale="en-GB"
    )
    page = context.new_page()
    page.route("**/ui-settings", lambda route: tell_api(route, shown.machine))
    page.goto(url)
    expect(page.locator(wait).first).to_be_visible(timeout=PATIENCE)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=to, full_page="/runs/flow-run/" not in url)
    context.close()


def tell_api(route: Route, machine: Machine) -> None:
    """Prefect's UI looks for its API at the usual port, and the server has another."""
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "api_url": machine.api_url})


def for_readme(shown: Scene, to: Path) -> None:
    """The two of the README."""
    to.mkdir(exist_ok=True)
    shoot(shown, shown.url, to / "status.png", wait="table.status")
    shoot(shown, shown.run, to / "run-in-prefect.png", wait="text=Completed")
    for path in to.glob("*.png"):
        if path.stat().st_size > LARGEST:
            raise RuntimeError(f"{path} has {path.stat().st_size} bytes, more than {LARGEST}")


def for_eyes(shown: Scene, to: Path) -> None:
    """All pages, to be looked at."""
    to.mkdir(exist_ok=True)
    backup = shown.machine.json("list", "shop")[-1]["id"]
    pages = {
        "status": "/",
        "backups": "/backups",
        "backups-of-shop": "/backups?app=shop",
        "backup": f"/backups/{backup}",
        "restore": f"/backups/{backup}/restore",
        "preview": f"/backups/{backup}/restore?where=in-place",
        "destinations": "/destinations",
        "apps": "/apps",
        "app": "/apps/shop",
        "schedules": "/schedules",
        "access": "/access",
        "docs": "/docs",
        "missing": "/nosuch",
    }
    for name, path in pages.items():
        shoot(shown, shown.url + path, to / f"{name}.png")
        shoot(shown, shown.url + path, to / f"{name}-dark.png", dark=True)
        shoot(shown, shown.url + path, to / f"{name}-phone.png", phone=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--all", type=Path, help="the directory for pictures of all pages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, scene(Path(directory)) as shown:
        for_readme(shown, IMAGES)
        if options.all:
            for_eyes(shown, options.all)


if __name__ == "__main__":
    main()
