"""The set-up of docs/production.md on loopback: what the units start, with a database and a Redis of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from cli.api import free_port, wait_until_healthy
from tests.peers import units
from tests.peers.command import TIMEOUT, Machine
from tests.peers.postgres import MissingPeer, PostgresServer, quoted, running_server
from tests.peers.redis import RedisServer, running_redis
from vault.process import tied_to_us


@dataclass
class Production:
    """A running set-up. ``servers`` are the ports of the API servers; ``machine`` knows the address before them."""

    place: Path
    postgres: PostgresServer
    address: str
    servers: tuple[int, int]
    redis: RedisServer
    units: dict[str, tuple[str, str, dict[str, str]]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def secrets(self) -> Path:
        """What ``new-secrets`` has made."""
        return self.place / "secrets"

    @property
    def machine(self) -> Machine:
        """One on which the commands run."""
        own = units.variables(self.secrets / "client.env")
        return Machine(self.place / "home", own.pop("PREFECT_API_URL"), {**own, "PYTHONPATH": str(units.ROOT)})

    def start(self, unit: str, instance: str = "", **more: str) -> subprocess.Popen[bytes]:
        """Start what *unit* starts; in a process group of its own, and ended with us."""
        name = f"{unit.removesuffix('.service')}{instance}"
        self.units[name] = (unit, instance, more)
        self.processes[name] = self._run(units.command(unit, instance), self.environment(unit, **more), name)
        return self.processes[name]

    def run(self, unit: str) -> None:
        """Have what *unit* does done."""
        assert self.start(unit).wait(timeout=TIMEOUT) == 0, self.said(unit.removesuffix(".service"))

    def environment(self, unit: str, **more: str) -> dict[str, str]:
        """What systemd would give it, in directories of the test's own."""
        home = str(self.place / "home")
        own = {"HOME": home, "PREFECT_HOME": f"{home}/prefect", "BACKUPS_WORK_DIR": f"{home}/work"}
        paths = {"PATH": os.environ["PATH"], "PYTHONPATH": str(units.ROOT)}
        return {**units.environment(unit, self.secrets), **own, **paths, **more}

    def start_balancer(self) -> subprocess.Popen[bytes]:
        """Caddy, with the file of ours."""
        if shutil.which("caddy") is None:
            raise MissingPeer("the tests need Caddy: it comes with the extra [test]")
        own = {
            "BACKUPS_LISTEN": self.address,
            "BACKUPS_CONSOLE_LISTEN": f"http://127.0.0.1:{free_port()}",
            "BACKUPS_SERVERS": " ".join(f"127.0.0.1:{port}" for port in self.servers),
            "HOME": str(self.place / "home"),
            "PATH": os.environ["PATH"],
        }
        argv = ["caddy", "run", "--adapter", "caddyfile", "--config", str(units.ROOT / "deployments/Caddyfile")]
        self.processes["caddy"] = self._run(argv, own, "caddy")
        return self.processes["caddy"]

    def said(self, name: str) -> str:
        """The last of what a process has printed."""
        return (self.place / f"{name}.log").read_text(errors="replace")[-5000:]

    def kill(self, name: str) -> None:
        """Kill -9: it alone, and wait for its end."""
        self.processes[name].kill()
        self.processes[name].wait()

    def revive(self) -> None:
        """Start again what has ended of that which systemd would: ``Restart=always``."""
        for name, (unit, instance, more) in [*self.units.items()]:
            if self.processes[name].poll() is not None and units.settings(unit, "Restart") == ["always"]:
                self.start(unit, instance, **more)

    def kill_state(self) -> None:
        """Kill -9 PostgreSQL and Redis."""
        for peer in (self.postgres, self.redis):
            peer.process.kill()
            peer.process.wait()

    def start_state(self) -> None:
        """Start both again, with what lies on their disks."""
        for name, peer in (("redis", self.redis), ("postgres", self.postgres)):
            self.processes[name] = self._run(cast("list[str]", peer.process.args), {"PATH": os.environ["PATH"]}, name)
        self.redis = replace(self.redis, process=self.processes["redis"])
        self.postgres = replace(self.postgres, process=self.processes["postgres"])
        self.redis.wait_until_ready()
        self.postgres.wait_until_ready()

    def end(self) -> None:
        """Kill all of it, and what it has started, before its database goes."""
        if "postgres" in self.processes:
            self.processes["postgres"].send_signal(signal.SIGINT)
            self.processes["postgres"].wait()
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()

    def _run(self, argv: list[str], environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        with (self.place / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [*tied_to_us(), *argv],
                env=environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def production(place: Path) -> Iterator[Production]:
    """All but workers: a database, Redis, two API servers, what stands before them, and the background services."""
    (place / "home").mkdir()
    with ExitStack() as stack:
        postgres = stack.enter_context(running_server("max_connections=200"))
        address = f"http://127.0.0.1:{free_port()}"
        secrets = _make_secrets(place / "secrets", address, postgres)
        said = dict(line.split() for line in (secrets / "redis.conf").read_text().splitlines() if line[0] != "#")
        password = said.pop("requirepass")
        options = [part for name, value in said.items() for part in (f"--{name}", value)]
        redis = stack.enter_context(running_redis(*options, password=password))
        _replace(secrets / "server.env", ":6379/", f":{redis.port}/")
        made = Production(place, postgres, address, (free_port(), free_port()), redis)
        stack.callback(made.end)
        made.run("prefect-migrate.service")
        started = {port: made.start("prefect-api@.service", str(port)) for port in made.servers}
        services, balancer = made.start("prefect-services.service"), made.start_balancer()
        for port, server in started.items():
            wait_until_healthy(f"http://127.0.0.1:{port}/api", server)
        wait_until_healthy(f"{address}/api", balancer)
        assert services.poll() is None, made.said("prefect-services")
        yield made


def _make_secrets(place: Path, address: str, postgres: PostgresServer) -> Path:
    environment = {"PATH": os.environ["PATH"], "BACKUPS_URL": address}
    subprocess.run([units.ROOT / "deployments/new-secrets", place], env=environment, check=True)
    _replace(place / "server.env", ":5432/", f":{postgres.port}/")
    password = units.variables(place / "postgres.env")["POSTGRES_PASSWORD"]
    postgres.sql(f"CREATE ROLE prefect LOGIN PASSWORD '{password}'")
    postgres.sql(f"CREATE DATABASE prefect OWNER {quoted('prefect')}")
    return place


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
