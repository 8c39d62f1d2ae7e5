"""``backups worker``: runs what a Prefect server has to run, and ends without harm."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from cli.api import POOL, prefect_api, server_known
from cli.output import note
from vault.errors import ConfigError


def worker(
    *,
    pool: str = POOL,
    name: str = "",
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 4,
    patience: Annotated[float, Parameter(validator=Number(gte=0))] = 3600,
) -> None:
    """Run what a Prefect server has for the work pool, until SIGTERM or Ctrl-C.

    Example: backups worker --pool office --limit 8

    It then begins nothing any more, waits for the runs that go on, and ends. A second signal interrupts these: they
    clean up, end as Crashed, and are mailed.

    Parameters
    ----------
    pool
        The work pool; it is made where there is none.
    name
        What Prefect shows; by default this machine's name and the process id.
    limit
        How many runs at once.
    patience
        How many seconds to wait for runs at the end, before they are interrupted.
    """
    if not server_known():
        raise ConfigError(
            "no Prefect server is known here that answers",
            "Set PREFECT_API_URL (and PREFECT_API_AUTH_STRING), or use `backups up`: it has a worker of its own.",
        )
    os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", "2")  # before Prefect is imported
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # the runs are of this code
    with prefect_api():
        from deployments.register import register_pool
        from deployments.worker import run

        register_pool(pool)
        run(pool, name or f"{socket.gethostname()}-{os.getpid()}", limit, patience, note)
