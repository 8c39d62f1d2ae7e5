"""What SQLite was too busy for is asked again soon.

Where two writes meet, a Prefect server on SQLite answers 503 at once, and Prefect's client then waits for two seconds:
as long as a small backup takes. A twentieth of a second later it mostly works.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.context import SyncClientContext

if TYPE_CHECKING:
    import httpx

_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Seconds, before Prefect's client begins to count: then it waits for 2 s, 4 s, … and a minute in all."""


def again_soon(client: SyncPrefectClient | PrefectClient) -> None:
    """Have *client* ask again soon.

    It waits as long as a server says that is being maintained, and does not count that. Here the server says nothing.
    """
    client._client.event_hooks = {"response": [_say_when if isinstance(client, SyncPrefectClient) else _await_say_when]}


@contextmanager
def one_client() -> Iterator[SyncPrefectClient]:
    """Within, every request of this thread goes through this client, which asks again soon.

    Several threads would meet each other in SQLite nearly each time; and a new client reads all certificates of this
    machine, for 20 ms.
    """
    with SyncClientContext.get_or_create() as context:
        again_soon(context.client)
        yield context.client


def _say_when(response: httpx.Response) -> None:
    if response.status_code != 503 or "Retry-After" in response.headers:
        return
    times = response.request.extensions.get("times", 0)
    if times < len(_WAITS):
        response.request.extensions = {**response.request.extensions, "times": times + 1}
        response.headers["Retry-After"] = str(_WAITS[times])
        response.headers["Prefect-Maintenance"] = "true"


async def _await_say_when(response: httpx.Response) -> None:
    _say_when(response)
