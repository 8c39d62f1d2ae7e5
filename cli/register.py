"""``backups register``: what the flows need at a Prefect server of one's own; ``backups up`` does it by itself."""

from __future__ import annotations

from cli.api import POOL, prefect_api, server_known
from cli.output import note
from vault.errors import ConfigError


def register(*, pool: str = POOL) -> None:
    """Register this project at the Prefect server: blocks, work pool, deployments, limits, automations.

    Example: backups register

    Do it after each installation and each upgrade. It changes nothing that is as it should be, and no schedule.

    Parameters
    ----------
    pool
        The work pool in which the deployments run.
    """
    if not server_known():
        raise ConfigError(
            "no Prefect server is known here that answers",
            "Set PREFECT_API_URL (and PREFECT_API_AUTH_STRING), or use `backups up`: it registers by itself.",
        )
    with prefect_api():
        from deployments.register import register_all

        register_all(pool)
    note(f"Registered; next, a worker: backups worker --pool {pool}")
