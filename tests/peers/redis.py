"""A real Redis server of the tests' own: a free port and a Unix socket, in a directory of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cli.api import free_port
from tests.peers.postgres import MissingPeer

PASSWORD = r"pa\"ss\'#;% $(touch x)ü"


@dataclass(frozen=True)
class RedisServer:
    """A running server. ``password`` is that of its default user, empty where it asks for none."""

    place: Path
    port: int
    process: subprocess.Popen[bytes] = field(repr=False)
    password: str = ""
    host: str = "127.0.0.1"

    @property
    def socket(self) -> str:
        return str(self.place / "socket")

    def ask(self, *words: str, database: int = 0) -> str:
        """What it answers to a command."""
        login = ["--askpass"] if self.password else []
        done = subprocess.run(
            ["redis-cli", "-s", self.socket, "-n", str(database), "-e", *login, *words],
            input=f"{self.password}\n".encode() if login else b"",
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode(errors="surrogateescape").rstrip("\n")

    def wait_until_ready(self) -> None:
        """A server that loads answers every command with LOADING; one without rights for us answers as well."""
        asking = ["redis-cli", "-s", self.socket, "PING"]
        while not subprocess.run(asking, capture_output=True).stdout.startswith((b"PONG", b"NOAUTH")):
            assert self.process.poll() is None, (self.place / "log").read_text()

    def content(self) -> list[object]:
        """All keys of all databases: what they are, what they hold, and whether they expire."""
        return [json.loads(self.ask("EVAL", _CONTENT, "0", database=database)) for database in range(16)]


_CONTENT = """
    local call, found = redis.call, {}
    local function sorted(list) table.sort(list) return list end
    local read = {
        string = function(key) return call('GET', key) end,
        list = function(key) return call('LRANGE', key, 0, -1) end,
        set = function(key) return sorted(call('SMEMBERS', key)) end,
        hash = function(key)
            local names = sorted(call("HKEYS", key))
            return {names, call("HMGET", key, unpack(names))}
        end,
        zset = function(key) return call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
        stream = function(key) return call('XRANGE', key, '-', '+') end,
    }
    for _, key in ipairs(sorted(call('KEYS', '*'))) do
        local kind = call('TYPE', key).ok
        table.insert(found, {key, kind, read[kind](key), call('TTL', key) >= 0})
    end
    return cjson.encode(found)
"""


def with_password(password: str) -> str:
    """The configuration of a server whose default user has *password*, or none."""
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    return f'requirepass "{escaped}"\n' if password else ""


@contextmanager
def running_redis(*options: str, password: str = "", dump: Path | None = None) -> Iterator[RedisServer]:
    """Start a server, with further options, or one that finds the file *dump* when it starts."""
    if shutil.which("redis-server") is None:
        raise MissingPeer("the tests need a Redis server: apt-get install -y redis-server")
    place, port = Path(tempfile.mkdtemp(prefix="backups-test-redis-", dir="/tmp")), free_port()
    if dump is not None:
        shutil.copy(dump, place / "dump.rdb")
    config = place / "redis.conf"
    config.write_text(with_password(password))
    every = ("--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(place / "socket"), "--dir", str(place))
    quick = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
    argv = ["setpriv", "--pdeathsig", "KILL", "--", "redis-server", str(config), *every, *quick, *options]
    try:
        with (place / "log").open("wb") as log:
            process = subprocess.Popen(argv, cwd=place, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            server = RedisServer(place, port, process, password)
            server.wait_until_ready()
            yield server
        finally:
            process.kill()
            process.wait(timeout=300)
    finally:
        shutil.rmtree(place)
