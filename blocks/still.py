"""Containers of an app that are held still, stopped or paused, while all of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from blocks.docker.engine import containers_using, find_volume
from blocks.docker.guard import Guard, How, stopped
from blocks.host import Host
from blocks.sources.base import Source
from blocks.sources.docker_volume import DockerVolume
from vault.errors import ConfigError


@dataclass(frozen=True)
class Still:
    """Containers of one server, and for how many seconds they may be down at most."""

    server: Host
    names: tuple[str, ...]
    how: How
    limit: float

    def hold(self) -> AbstractContextManager[Guard]:
        """Those that run are down within the context, and back at its end: see ``stopped``."""
        return stopped(self.server.hurried(), self.names, self.how, self.limit)


def found_still(
    sources: Mapping[str, Source], named: list[str], where: Host | None, how: How, limit: float
) -> list[Still]:
    """What to hold still for *sources*: the containers *named*, on *where*, else on the one server of them all; where
    none is named, those that use their volumes now. A container in which one of the databases itself runs goes on.

    ``ConfigError`` where there is none, or it is not clear where they are.
    """
    servers: dict[str, Host] = {source.server.location: source.server for source in sources.values()}
    kept = {(source.server.location, name) for source in sources.values() for name in source.runs_in()}
    wanted: dict[str, list[str]] = {}
    if named:
        if where is None and len(servers) > 1:
            raise ConfigError(
                f"the app has sources on {len(servers)} servers, and it is not said on which its containers are",
                "Name it: backups app update APP --containers-on SERVER.",
            )
        server = where or next(iter(servers.values()))
        servers[server.location] = server
        wanted[server.location] = named
    else:
        for source in sources.values():
            wanted.setdefault(source.server.location, []).extend(_users(source))
    held = [
        Still(servers[place], names, how, limit)
        for place, of_it in wanted.items()
        if (names := tuple(dict.fromkeys(name for name in of_it if (place, name) not in kept)))
    ]
    if not held:
        raise ConfigError(
            "no container of the app is known that could be held still for a consistent backup",
            "Name them: backups app update APP --container NAME; or back up without --consistent.",
        )
    return held


def _users(source: Source) -> list[str]:
    """The containers that work in *source* now."""
    volume = find_volume(source.server, source.volume) if isinstance(source, DockerVolume) else None
    return [one.name for one in containers_using(source.server, volume)] if volume else []
