"""Every kind of secret that a block has: good and wrong ones, used and refused, then looked for everywhere (law 10)."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi.testclient import TestClient
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL
from prefect_shell import ShellOperation
from pydantic import SecretStr

from blocks import App
from blocks.loading import load
from console.api import create
from flows.backup import backup
from tests.cli.conftest import Command, command
from tests.console.conftest import alone
from tests.destinations.test_google_drive import server
from tests.flows.conftest import postgres_server
from tests.flows.test_secrets import files_with, spellings
from tests.peers.drive import DriveServer
from tests.peers.postgres import PostgresServer
from tests.peers.prefect_worker import until
from tests.peers.rclone_sftp import running_rclone_sftp
from tests.peers.s3 import KEY_ID, SECRET, running_rclone
from tests.peers.smtp import PASSWORD, USER, MailServer, mail_server
from tests.peers.ssh_host import ssh_host
from tests.peers.sshd import SshServer
from tests.peers.watchdog import Watchdog, watchdog
from tests.peers.watched import Watched

__all__ = ["alone", "command", "postgres_server", "server"]
_MARK = uuid4().hex[:8]
_DOORS = ("db", "ssh", "sftp", "b2", "drive", "mail", "ping")


def canary(name: str) -> str:
    return f"canary-{_MARK}-{name}"


class Scene:
    """Everything that has secrets, set up by command: each once as it should be, and once with a wrong secret."""

    def __init__(self, command: Command, root: Path, stack: ExitStack) -> None:
        self.command, self.root, self._stack = command, root, stack
        self.said: list[str] = []
        self.needles: set[str] = {canary(f"{how}-{door}") for how in ("good", "wrong") for door in _DOORS}
        self.secrets = root / "secrets"
        for name in ("secrets", "data"):
            (root / name).mkdir()
        (root / "data/a").write_text("a")

    def run(self, *words: object, code: int | None = 0) -> str:
        """A command; what it says is kept, to be searched."""
        done = self.command(*words, code=code)
        self.said += [done.out, done.err]
        return done.out + done.err

    def file(self, text: str) -> Path:
        """A file that holds a secret; all of them are gone before anything is searched."""
        path = self.secrets / uuid4().hex
        path.write_text(text)
        self.needles |= {line for line in text.splitlines() if len(line) > 40 and "{" not in line}  # of a key
        return path

    def both(self, good: tuple[object, ...], option: str, secret: str, wrong: str) -> None:
        """Add what is to be used; and with a wrong secret, which is refused, then saved all the same."""
        self.needles |= {secret.strip(), wrong}
        self.run(*good, option, self.file(secret))
        other = (*good[:3], f"{good[3]}-wrong", *good[4:])
        refused = self.command(*other, option, self.file(wrong), code=None)
        assert (refused.code, "--help" in refused.err) != (0, False), refused
        self.said += [refused.out, refused.err]
        self.run(*other, option, self.file(wrong), "--no-test", code=None)

    def database(self, of: PostgresServer) -> None:
        of.sql(f"CREATE ROLE {_ROLE} LOGIN SUPERUSER PASSWORD '{canary('good-db')}'")
        name = self._stack.enter_context(of.database("CREATE TABLE t AS SELECT 1 AS x"))
        where = ("--host", of.host, "--port", of.port, "--user", _ROLE, "--database", name)
        self.both(("source", "add", "postgres", "db", *where), "--password-file", canary("good-db"), canary("wrong-db"))

    def server(self, of: SshServer) -> None:
        key = self.file(of.key(canary("good-ssh")))
        where = ("--host", of.host, "--port", of.port, "--user", of.user, "--key", key, "--host-key", of.host_key)
        secrets = canary("good-ssh"), canary("wrong-ssh")
        self.both(("server", "add", "ssh", "ssh", *where), "--passphrase-file", *secrets)
        (of.served / "data").mkdir()
        (of.served / "data/a").write_text("a")
        self.run("source", "add", "directory", "files", of.served / "data", "--server", "ssh")

    def sftp(self) -> None:
        of = self._stack.enter_context(running_rclone_sftp())
        where = ("--host", "127.0.0.1", "--port", of.port, "--user", of.user, "--host-key", of.host_key)
        place = ("destination", "add", "sftp", "sftp", *where, "--root", f"{of.seen}/backups")
        self.both(place, "--password-file", of.password, canary("wrong-sftp"))

    def bucket(self) -> None:
        of = self._stack.enter_context(running_rclone())
        where = ("--bucket", of.new_bucket(), "--endpoint", of.endpoint, "--key-id", KEY_ID)
        self.both(("destination", "add", "b2", "b2", *where), "--secret-file", SECRET, canary("wrong-b2"))

    def drive(self, of: DriveServer) -> None:
        good = of.drive.accounts.service_account("backups", canary("good-drive"))
        wrong = of.drive.accounts.service_account("nobody", canary("wrong-drive"))
        del of.drive.accounts.services[wrong.email]
        shared = of.drive.shared_drive(**{good.email: "organizer"})
        for account in (good, wrong):
            self.needles |= set(json.loads(account.key)["private_key"].splitlines()[1:-1])
        add = ("destination", "add", "google-drive")
        self.run(*add, "drive", "--shared-drive", shared, "--service-account", self.file(good.key))
        broken = (*add, "drive-wrong", "--shared-drive", shared, "--service-account", self.file(wrong.key))
        assert "Saved" not in self.run(*broken, code=None)
        block = load("google-drive-destination/drive", Block)
        block.model_copy(update={"service_account_key": SecretStr(wrong.key)}).save("drive-wrong")  # type: ignore[attr-defined]

    def mail(self, of: MailServer) -> None:
        where = ("--host", "127.0.0.1", "--port", of.port, "--security", "none", "--user", USER)
        whom = ("--sender", "backups@example.org", "--to", "ops@example.org")
        self.both(("notify", "add", "email", "mail", *where, *whom), "--password-file", PASSWORD, canary("wrong-mail"))

    def ping(self, of: Watchdog) -> None:
        of.answers += [(200, "OK"), (404, f"no {canary('wrong-ping')}")]
        elsewhere = of.url.replace(canary("good-ping"), canary("wrong-ping"))
        self.both(("notify", "add", "ping", "ping"), "--url-file", of.url, elsewhere)

    def hooks(self) -> None:
        for name, end in (("hook", ""), ("hook-wrong", "false")):
            environment = {"TOKEN": canary("told-hook")}
            looked_at = f"until [ -e {self.root}/seen ]; do sleep 0.05; done"
            commands = ['echo "the token is $TOKEN"', f"cat {self.root}/data/a", looked_at, *filter(None, [end])]
            ShellOperation(commands=commands, env=environment).save(name, overwrite=True)

    def apps(self) -> None:
        disk = str(self.root / "disk")
        to = [word for name in (disk, "sftp", "b2", "drive") for word in ("--to", name)]
        self.run("app", "add", "canary", "--source", "db", "--source", "files", *to, "--before", "hook")
        app = load("backup-app/canary", App)
        here = [ref for ref in app.destinations if ref.startswith("local-")]
        wrong = [f"{ref}-wrong" for ref in app.destinations if not ref.startswith("local-")]
        more: dict[str, dict[str, Any]] = {
            "canary-source": {"sources": ["postgres-database/db-wrong"], "destinations": here, "before": ""},
            "canary-places": {"destinations": [*here, *wrong], "before": ""},
            "canary-hook": {"destinations": here, "before": "shell-operation/hook-wrong"},
        }
        for name, fields in more.items():
            app.model_copy(update=fields).save(name)


_ROLE = f"canary_{_MARK}"


def answers(prefix: str) -> list[str]:
    """What Prefect's API says of everything that was made, and the console's pages and API."""
    url, found = str(PREFECT_API_URL.value()), []
    for noun in (
        "logs",
        "flow_runs",
        "task_runs",
        "artifacts",
        "events",
        "automations",
        "block_documents",
        "variables",
    ):
        answer = httpx.post(f"{url}/{noun}/filter", json={"limit": 50} if noun == "events" else {}, timeout=60)
        assert answer.status_code == 200, (noun, answer.text)
        # prefect-shell says the environment of its block to everybody: our documentation warns of that
        found.append("" if noun == "block_documents" else answer.text)
        if noun == "block_documents":
            rest = [one for one in answer.json() if one["block_type"]["slug"] != "shell-operation"]
            found.append(json.dumps(rest))
    with TestClient(create(), base_url="http://127.0.0.1:4280") as client:
        items = client.get(f"/api/backups?app={prefix}").json()["items"]
        one = [f"/backups/{item['id']}" for item in items]
        runs = [f"/runs/{item['run']['id']}" for item in items if item["run"]]
        names = [place["name"] for place in client.get("/api/backup-destinations").json()]
        places = [f"/destinations/{name}/edit" for name in names]
        pages = ["/", "/backups", "/apps", "/destinations", "/schedules", "/docs", f"/apps/{prefix}"]
        for path in [*pages, *one, *runs, *places, *(f"/api{path}" for path in (*one, *runs)), "/metrics"]:
            found.append(client.get(path, headers={"Accept": "text/html"}).text)
        found += [client.get(f"/api/{noun}").text for noun in ("status", "apps", "backup-destinations", "backups")]
    return found


@pytest.fixture
def scene(
    alone: None, command: Command, server: DriveServer, postgres_server: PostgresServer, tmp_path: Path
) -> Iterator[tuple[Scene, MailServer, Watchdog]]:
    with ExitStack() as stack:
        made = Scene(command, tmp_path, stack)
        inbox = stack.enter_context(mail_server(auth=True))
        dog = stack.enter_context(watchdog(canary("good-ping")))
        host = stack.enter_context(ssh_host())
        made.database(postgres_server)
        made.server(host)
        made.sftp()
        made.bucket()
        made.drive(server)
        made.mail(inbox)
        made.ping(dog)
        made.hooks()
        made.apps()
        yield made, inbox, dog
        for name in ("canary", "canary-source", "canary-places", "canary-hook"):
            Block.delete(f"backup-app/{name}")
        command("notify", "remove", "mail")
    postgres_server.sql(f"DROP ROLE {_ROLE}")


@pytest.mark.law(10)
@pytest.mark.fault("O12", "S12")
def test_no_secret_of_any_door_good_or_wrong_is_found_in_anything_that_is_kept_or_shown(
    scene: tuple[Scene, MailServer, Watchdog], caplog: pytest.LogCaptureFixture
) -> None:
    made, inbox, dog = scene
    caplog.set_level(logging.DEBUG, "prefect")
    identity = made.command("keys", "generate", "--json").json
    made.needles |= {identity["identity"]}
    needles = set().union(*map(spellings, made.needles))
    told = spellings(canary("told-hook"))

    def let_the_hook_go_on() -> None:
        until(lambda: "bash" in watched.seen)
        (made.root / "seen").touch()

    with Watched(needles, told) as watched:
        threading.Thread(target=let_the_hook_go_on, daemon=True).start()
        good = backup(app="canary", encrypt_to=[identity["recipient"]], ping="ping")
        assert [landing["status"] for landing in good.as_json()["destinations"]] == ["committed"] * 4
        assert dog.taken
        for app in ("canary-source", "canary-places", "canary-hook"):
            with pytest.raises(Exception, match=r"(?s).+") as failed:
                backup(app=app, ping="ping-wrong")
            made.said += [repr(failed.value), str(failed.value), *getattr(failed.value, "__notes__", ())]
        key = made.file(identity["identity"])
        to = ("--to", made.root / "restored", "--source", "files", "--identity", key)
        for place in ("sftp", "b2", "drive"):
            made.run("restore", "canary", good.id, "--from", place, *to, "--overwrite", "--yes")
        for words in (("app", "show", "canary"), ("hook", "list"), ("list", "canary"), ("show", good.id)):
            made.run(*words, code=None)
        for noun, names in (("destination", ("sftp", "b2", "drive")), ("source", ("db",)), ("server", ("ssh",))):
            for name in names:
                made.run(noun, "show", name)
                made.run(noun, "test", f"{name}-wrong", code=None) if noun != "server" else None
    assert watched.seen & {"pg_dump", "pg_restore"}, watched.seen
    assert watched.found == set()
    made.said += [*answers("canary"), *(text for _, text in dog.taken), caplog.text]
    made.said += [mail.as_string() for mail in inbox.mails()]
    everything = {needle.decode() for needle in needles | told}
    assert sorted({needle for text in made.said for needle in everything if needle in text}) == []
    assert [name for name, value in os.environ.items() if any(needle in value for needle in everything)] == []
    for path in made.secrets.iterdir():
        path.unlink()
    assert files_with(made.root, needles | told) == []
    home = Path(os.environ["HOME"])
    assert "prefect.db" in {path.name.removesuffix("-wal") for path in files_with(home, {_ROLE.encode()})}, "it is read"
    assert files_with(home, needles | told) == []
