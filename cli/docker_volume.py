"""``backups source add docker-volume``."""

from __future__ import annotations

from typing import Annotated

from cli.api import prefect_api
from cli.saved import Flag, Repeated, made, save
from cli.servers import Place
from vault.errors import ConfigError


def add_docker_volume(
    name: str,
    /,
    *,
    volume: str,
    stop_containers: Annotated[bool, Flag] = False,
    pause_containers: Annotated[bool, Flag] = False,
    most_seconds_down: int = 3600,
    helper_image: str = "debian:stable-slim",
    exclude: Annotated[list[str] | None, Repeated] = None,
    allow_unreadable: Annotated[bool, Flag] = False,
    place: Place | None = None,
) -> None:
    """Save a Docker volume.

    Example: backups source add docker-volume shop-uploads --volume shop_uploads --stop-containers

    Parameters
    ----------
    name
        The name of the source.
    volume
        The volume's name. It has to exist.
    stop_containers
        Stop the containers that use it while it is read, and start them again.
    pause_containers
        Pause them instead.
    most_seconds_down
        Have them back after so many seconds in any case; the backup then fails.
    helper_image
        The image through which it is read where its path cannot be. It has to be there, and to have GNU tar.
    exclude
        A pattern of names to leave out. Repeatable.
    allow_unreadable
        Warn about files that cannot be read, instead of failing.
    """
    if stop_containers and pause_containers:
        raise ConfigError("containers are either stopped or paused", "Give one of both options.")
    where = place or Place()
    with prefect_api():
        from blocks.sources import DockerVolume

        block = made(
            DockerVolume,
            volume=volume,
            containers="stop" if stop_containers else "pause" if pause_containers else "run",
            most_seconds_down=most_seconds_down,
            helper_image=helper_image,
            exclude=exclude or [],
            allow_unreadable=allow_unreadable,
            **where.fields(),
        )
        save("source", name, block, where.no_test)
