"""The key of Prefect's blocks where the user keeps it, as in production: PostgreSQL, and the key in a secrets file."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet, InvalidToken
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks import SftpDestination
from cli.encryption_key import VARIABLES
from cli.reencrypt_postgres import PostgresUrl
from cli.reencrypt_sqlite import SqliteFile
from tests.peers.command import Machine
from tests.peers.postgres import PostgresServer, postgres_server
from tests.peers.prefect_server import prefect_server
from tests.reduced import reduced

__all__ = ["postgres_server"]

CANARY = "canary-Pa55w0rd"
NAMES = ("attic", "cellar", "office")
EXPECTED = {name: f"{CANARY}-{name}" for name in NAMES}
URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
ROLE, PASSWORD = "prefect", secrets.token_hex(8)
OLD = Fernet.generate_key().decode()


@dataclass(frozen=True)
class Site:
    """A database of Prefect's in PostgreSQL with blocks under ``OLD``, and the files of who keeps its key."""

    postgres: PostgresServer
    database: str
    place: Path

    @property
    def url(self) -> str:
        return url_of(self.postgres, self.database)

    @property
    def env(self) -> Path:
        return self.place / "server.env"

    @property
    def new(self) -> Path:
        return self.place / "new.key"

    @property
    def rotate(self) -> tuple[str, ...]:
        """The command."""
        return ("keys", "rotate", "--server-env", str(self.env), "--new-key-file", str(self.new))

    @property
    def machine(self) -> Machine:
        return Machine(self.place, None)

    def tell(self, key: str) -> None:
        """Say in ``server.env`` that the servers' key is *key*."""
        self.env.touch(mode=0o600)
        self.env.write_text(f"# of the servers\n{VARIABLES[0]}={key}\n{URL}={self.url}\n")

    def passwords(self, key: str) -> dict[str, str]:
        """The password of each block, decrypted with *key* alone."""
        fernet = Fernet(key)
        blocks = PostgresUrl(self.url).contents().blocks
        return {block.name: json.loads(fernet.decrypt(block.token))["password"] for block in blocks}

    def raw(self) -> str:
        """The tables as ``pg_dump`` writes them."""
        argv = [self.postgres.bin / "pg_dump", "-h", "127.0.0.1", "-p", str(self.postgres.port), "-U", ROLE]
        own = {"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD}
        return subprocess.run([*argv, self.database], env=own, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def server(self, key: str) -> Iterator[None]:
        """A server with *key*, to which Prefect's client talks."""
        own = {URL: self.url, VARIABLES[0]: key}
        with prefect_server(self.place / "server", own) as api, temporary_settings({PREFECT_API_URL: api}):
            yield

    @contextmanager
    def session(self) -> Iterator[str]:
        """Somebody else is connected; gives back the id of the server's process."""
        argv = [self.postgres.bin / "psql", "-XqAt", "-h", "127.0.0.1", "-p", str(self.postgres.port), "-U", "admin"]
        own = {"PATH": os.environ["PATH"], "PGPASSWORD": self.postgres.password}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([*argv, self.database], env=own, text=True, **pipes) as psql:
            assert psql.stdin is not None
            assert psql.stdout is not None
            print("SELECT pg_backend_pid();", file=psql.stdin, flush=True)
            yield psql.stdout.readline().strip()
            psql.stdin.close()

    def refused(self, *more: str, **environment: str) -> str:
        """What the command says, which changes nothing."""
        before = self.raw()
        done = self.machine.run(*self.rotate, *more, ok=False, **environment)
        assert done.returncode == 2
        assert without_secret(done.stdout + done.stderr)
        assert tables(self.raw()) == tables(before)
        return done.stderr


def url_of(postgres: PostgresServer, database: str) -> str:
    return f"postgresql+asyncpg://{ROLE}:{PASSWORD}@127.0.0.1:{postgres.port}/{quote(database)}"


def tables(dump: str) -> str:
    """*dump* without the word that newer versions make anew each time."""
    return "\n".join(line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


def without_secret(text: str, *keys: str) -> bool:
    return not any(secret in text for secret in (CANARY, PASSWORD, OLD, *keys))


@pytest.fixture(scope="module")
def made(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What a real server has left: the name of its database, which is no superuser's."""
    postgres_server.sql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    with postgres_server.database(name="made") as name:
        postgres_server.sql(f"ALTER DATABASE {name} OWNER TO {ROLE}; GRANT ALL ON SCHEMA public TO {ROLE}", name)
        site = Site(postgres_server, name, tmp_path_factory.mktemp("made"))
        with site.server(OLD):
            for each, password in EXPECTED.items():
                SftpDestination(host="h", user="u", root="/r", password=SecretStr(password)).save(each)
        yield name
    postgres_server.sql(f"DROP ROLE {ROLE}")


@pytest.fixture
def site(postgres_server: PostgresServer, made: str, tmp_path: Path) -> Iterator[Site]:
    name = f"copy_{secrets.token_hex(4)}"
    postgres_server.sql(f"CREATE DATABASE {name} TEMPLATE {made} OWNER {ROLE}")
    try:
        site = Site(postgres_server, name, tmp_path)
        site.tell(OLD)
        yield site
    finally:
        postgres_server.drop(name)


@pytest.mark.law(10)
@pytest.mark.fault("O12")
def test_servers_on_postgresql_read_all_blocks_with_the_new_key_and_none_with_the_old_one(site: Site) -> None:
    with site.server(OLD):
        said = site.refused()
        assert f"connected to Prefect's database {site.database} on 127.0.0.1: {ROLE} from 127.0.0.1 (server " in said
        assert "systemctl stop 'prefect-api@*' prefect-services" in said
        assert not site.new.exists()

    done = site.machine.run(*site.rotate)
    key = site.new.read_text().strip()
    assert site.new.stat().st_mode & 0o777 == 0o600
    assert "3 blocks" in done.stdout
    assert f"Line 2 of {site.env}, {VARIABLES[0]}=…, has to say that key" in done.stdout
    assert "old key as a comment" in done.stdout
    assert done.stdout.index("prefect-api@4201") < done.stdout.index("start prefect-services")
    assert without_secret(done.stdout + done.stderr, key)
    assert site.passwords(key) == EXPECTED
    raw = site.raw()
    assert NAMES[0] in raw, "the search finds what is there"
    assert without_secret(raw, key)

    with site.server(key):
        assert SftpDestination.load("office").password.get_secret_value() == EXPECTED["office"]
        site.tell(key)
        done = site.machine.run(*site.rotate)  # nothing is left to do, so nobody has to stop
        assert "the old key can go" in done.stdout.replace("\n", " ")
    with site.server(OLD), pytest.raises(PrefectHTTPStatusError, match="500"):
        SftpDestination.load("office")


@pytest.mark.fault("K15")
@pytest.mark.parametrize(
    "milestone",
    reduced(["rotate:written", "rotate:document", "rotate:committed"], "rotate:document", "rotate:committed"),
)
def test_rotate_that_is_killed_leaves_all_blocks_under_one_key_and_the_next_one_finishes_it(
    site: Site, milestone: str
) -> None:
    for _ in range(2 if milestone != "rotate:committed" else 1):  # after the commit, another one has nothing to do
        site.machine.kill_at(milestone, *site.rotate)
        key = site.new.read_text().strip()
        assert site.passwords(key if milestone == "rotate:committed" else OLD) == EXPECTED
        assert OLD in site.env.read_text()
    done = site.machine.json(*site.rotate)
    assert done["blocks"] == len(NAMES)
    assert done["old_key_needed"] is True
    assert site.new.read_text().strip() == key
    assert site.passwords(key) == EXPECTED
    site.tell(key)
    assert site.machine.json(*site.rotate)["old_key_needed"] is False
    assert [path.name for path in site.place.glob("new.key*")] == ["new.key"]


def test_it_is_refused_while_anybody_is_connected_also_another_role(site: Site) -> None:
    with site.session() as pid:
        assert f"admin as psql (server processes {pid})" in site.refused()
    assert not site.new.exists()
    rotating = site.machine.stop_at("rotate:document", *site.rotate)
    with site.session() as pid:  # a server that starts meanwhile has the old key
        while rotating.poll() is None:
            rotating.send_signal(signal.SIGCONT)
            os.waitid(os.P_PID, rotating.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
    assert rotating.returncode == 2
    assert f"(server processes {pid})" in (site.place / "output").read_text()
    assert site.passwords(OLD) == EXPECTED
    site.machine.run(*site.rotate)
    assert site.passwords(site.new.read_text().strip()) == EXPECTED


def test_it_is_refused_while_a_server_runs_here_that_has_no_session_because_nobody_has_asked_it(
    site: Site,
) -> None:
    waits = [sys.executable, "-c", "print(flush=True); input()", "-m", "prefect", "server", "start", "--no-services"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(waits, env={URL: site.url}, **pipes) as server:
        assert server.stdout is not None
        server.stdout.readline()
        assert f"process {server.pid} is a Prefect server on the database {site.database}" in site.refused()
        server.communicate(b"\n")
    assert not site.new.exists()


def test_blocks_that_no_key_decrypts_are_named_and_nothing_is_changed(site: Site) -> None:
    lost = json.dumps(Fernet(Fernet.generate_key()).encrypt(b"{}").decode())
    site.postgres.sql(f"UPDATE block_document SET data = '{lost}' WHERE name <> 'office'", site.database)  # noqa: S608
    said = site.refused()
    assert "2 blocks can be decrypted with none of the keys" in said
    assert all(f"{name} (SFTP Destination)" in said for name in ("attic", "cellar"))
    assert "office" not in said
    assert "--old-key-file" in said
    assert not site.new.exists()


def test_the_old_key_may_lie_in_a_file_of_its_own_or_in_the_database_which_it_leaves(site: Site) -> None:
    own = Fernet.generate_key().decode()
    blocks = {block.name: block for block in PostgresUrl(site.url).contents().blocks}
    token = json.dumps(Fernet(own).encrypt(Fernet(OLD).decrypt(blocks["attic"].token)).decode())
    value = json.dumps({"fernet_key": own})
    site.postgres.sql(
        f"UPDATE block_document SET data = '{token}' WHERE name = 'attic';"  # noqa: S608
        f"INSERT INTO configuration (key, value) VALUES ('ENCRYPTION_KEY', '{value}')",
        site.database,
    )
    site.env.write_text(f"{URL}={site.url}\n")
    old = site.place / "old.key"
    old.touch(mode=0o600)
    old.write_text(f"{OLD}\n")
    done = site.machine.run(*site.rotate, "--old-key-file", str(old))
    assert f"{site.env} needs a line {VARIABLES[0]}=…" in done.stdout
    assert site.passwords(site.new.read_text().strip()) == EXPECTED
    assert own not in site.raw()
    assert old.read_text() == f"{OLD}\n"


def test_what_others_may_read_or_what_is_missing_is_refused_with_what_to_do(site: Site) -> None:
    assert "--new-key-file" in site.machine.run(*site.rotate[:-2], ok=False).stderr
    assert "there is no file" in site.refused("--old-key-file", str(site.place / "none"))
    site.env.chmod(0o644)
    assert "chmod 600" in site.refused()
    site.env.chmod(0o600)
    site.env.write_text(f"{URL}={site.url.replace(PASSWORD, 'wrong')}\n")
    failed = site.machine.run(*site.rotate, ok=False)
    assert f"{site.database} on 127.0.0.1 cannot be used" in failed.stderr
    assert "wrong" not in failed.stderr.replace("what is wrong", "")
    site.env.unlink()
    assert "there is no file" in site.refused()
    said = site.machine.run("keys", "rotate", "--new-key-file", str(site.new), ok=False, **{URL: "mysql://h/d"}).stderr
    assert "not known here" in said
    assert not site.new.exists()
    site.machine.run("keys", "rotate", "--new-key-file", str(site.new), **{URL: site.url, VARIABLES[0]: OLD})
    assert site.passwords(site.new.read_text().strip()) == EXPECTED


def test_a_key_that_the_user_keeps_for_a_database_of_sqlite_is_changed_too(tmp_path: Path) -> None:
    home, new = tmp_path / "prefect", tmp_path / "new.key"
    with prefect_server(home, {VARIABLES[0]: OLD}) as url, temporary_settings({PREFECT_API_URL: url}):
        SftpDestination(host="h", user="u", root="/r", password=SecretStr(CANARY)).save("office")
    machine = Machine(tmp_path, None)
    words = ("keys", "rotate", "--new-key-file", str(new))
    assert "is kept here" in machine.run(*words, ok=False).stderr
    assert "1 blocks" in machine.run(*words, **{VARIABLES[0]: OLD}).stdout
    (block,) = SqliteFile(home / "prefect.db").contents().blocks
    assert json.loads(Fernet(new.read_text().strip()).decrypt(block.token))["password"] == CANARY
    with pytest.raises(InvalidToken):
        Fernet(OLD).decrypt(block.token)
