"""Prefect's API server as an ASGI application, ``uvicorn --factory cli.api_server:create_app``, on SQLite.

What differs from Prefect's own: no garbage is collected in the thread of its event loop. A collection ends cursors that
an exception has held ("database is locked" is one). To end one, sqlite3 takes the lock of its connection, and another
thread may have that while it waits, for as much as a minute, for a transaction of somebody else. If that is one of the
event loop's, which waits in the collection, nobody goes on: the server answered nothing for a minute, about once in a
hundred runs on a busy machine (seen with Prefect 3.8.8 and Python 3.11: ``cursor_dealloc`` in ``sqlite3_reset``).
"""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

_PAUSE = 0.1  # seconds between two looks


def create_app() -> FastAPI:
    """Prefect's application, with its garbage collected beside the event loop."""
    from prefect.server.api.server import create_app as prefects

    app = prefects()
    collect_beside()
    return app


def collect_beside() -> None:
    """From now on a thread of its own collects the garbage of this process, by Python's own thresholds.

    What is there already stays for ever: that is what was imported.
    """
    gc.disable()
    gc.collect()
    gc.freeze()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    pause = threading.Event()
    while not pause.wait(_PAUSE):
        full = [count > most for count, most in zip(gc.get_count(), gc.get_threshold(), strict=True)]
        for generation in (2, 1, 0):
            if full[generation]:
                gc.collect(generation)
                break
