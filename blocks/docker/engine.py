"""The ``docker`` command of a server: names by allow-list, and what the daemon says of containers and volumes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from blocks.host import Host
from vault.command import Command
from vault.errors import ConfigError, SourceError, printable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_SWARM = "com.docker.swarm.service.name"
ABSENT = re.compile(r"[Nn]o such (?:container|volume|image|object)")
# What the daemon, or the client without one, says of itself. Trying again may help.
TRANSIENT = (
    "Cannot connect to the Docker daemon|error during connect|daemon is shutting down|i/o timeout|unexpected EOF"
)


def docker_name(text: str) -> str:
    """*text* as the name of a container or volume: no path, no option, no second part after a colon (N09)."""
    if not _NAME.fullmatch(text):
        raise ConfigError(
            f"{printable(text)!r} is not the name of a container or volume",
            "Such a name has letters, digits, '_', '.' and '-', and begins with a letter or a digit.",
        )
    return text


def _field(text: str) -> str:
    try:
        return docker_name(text)
    except ConfigError as error:
        raise ValueError(error.message) from None


DockerName = Annotated[str, AfterValidator(_field)]
"""The name of a container or volume, as a field."""
OptionalDockerName = Annotated[str, AfterValidator(lambda text: _field(text) if text else text)]
"""The same, or empty."""


@dataclass(frozen=True)
class ContainerState:
    """A container as the daemon sees it now; *status* is running, paused, exited …"""

    id: str
    name: str
    status: str
    started: str
    vanishes: bool
    swarm: str
    mounts: tuple[tuple[str, str], ...]
    """Of each mount its volume, or "", and where that lies on the server."""


@dataclass(frozen=True)
class Volume:
    """A volume. *plain*: it is a directory of the server, and neither mounted from elsewhere nor of a plug-in."""

    name: str
    mountpoint: str
    plain: bool
    labels: dict[str, str]


def docker(*arguments: str, idle_timeout: float | None = 120.0, ok: frozenset[int] = frozenset({0})) -> Command:
    """One command of the ``docker`` client. It uses the daemon that it finds by itself (context, ``DOCKER_HOST``)."""
    return Command(("docker", *arguments), idle_timeout=idle_timeout, ok=ok, transient=TRANSIENT)


def ask(server: Host, *arguments: str) -> str:
    """What a short ``docker`` command printed."""
    return server.run(docker(*arguments)).stdout.decode(errors="replace").strip()


def find_volume(server: Host, name: str) -> Volume | None:
    """The volume of that name, or None. Looking for one never makes it."""
    try:
        found = json.loads(ask(server, "volume", "inspect", "--", docker_name(name)))[0]
    except SourceError as error:
        if ABSENT.search(error.message):
            return None
        raise
    plain = found["Driver"] == "local" and not found["Options"]
    return Volume(found["Name"], found["Mountpoint"], plain, found["Labels"] or {})


def look_at(server: Host, names: Sequence[str]) -> list[ContainerState]:
    """The containers of these names or ids, oldest start first; ``SourceError`` where one is not there."""
    if not names:
        return []
    found = json.loads(ask(server, "container", "inspect", "--", *map(docker_name, names)))
    return sorted(map(_state, found), key=lambda one: one.started)


def containers_using(server: Host, volume: Volume) -> list[ContainerState]:
    """Those that run, paused or not, and use *volume*, also by the path where it lies; oldest start first."""
    running = ask(server, "ps", "--quiet", "--no-trunc").split()
    inspected = server.run(docker("container", "inspect", "--", *running, ok=frozenset({0, 1}))) if running else None
    # One that has ended since it was listed is told on stderr, and uses nothing.
    found = json.loads(inspected.stdout) if inspected else []
    return sorted((one for one in map(_state, found) if _uses(one, volume)), key=lambda one: one.started)


def _uses(container: ContainerState, volume: Volume) -> bool:
    below = volume.mountpoint.rstrip("/") + "/"
    return any(
        name == volume.name or f"{place}/".startswith(below) for name, place in container.mounts
    ) and container.status not in ("exited", "dead")


def _state(found: dict[str, Any]) -> ContainerState:
    state, labels = found["State"], found["Config"]["Labels"] or {}
    return ContainerState(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        status=state["Status"],
        started=state["StartedAt"],
        vanishes=bool(found["HostConfig"]["AutoRemove"]),
        swarm=labels.get(_SWARM, ""),
        mounts=tuple((one.get("Name", ""), one.get("Source", "")) for one in found["Mounts"]),
    )
