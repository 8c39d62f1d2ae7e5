"""Log records with fields that say what each is about: ``app``, ``id`` (of a backup), ``source``, ``destination``."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

FIELDS = ("app", "id", "source", "destination")
_KEPT = (*FIELDS, "flow_run_id", "flow_run_name", "task_run_id", "task_run_name")
_fields: ContextVar[dict[str, str] | None] = ContextVar("fields", default=None)


def fields() -> dict[str, Any]:
    """What is logged in this context is about these."""
    return dict(_fields.get() or {})


@contextmanager
def about(**more: str) -> Iterator[None]:
    """What is logged within is about *more*, too; also by tasks that are submitted within."""
    token = _fields.set({**fields(), **more})
    try:
        yield
    finally:
        _fields.reset(token)


def also(**more: str) -> None:
    """From now on also about *more*, up to the end of the ``about`` around it."""
    _fields.set({**fields(), **more})


class Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time (UTC), level, logger, message; what it is about, and which run wrote it; the traceback of an error."""
        found = {**fields(), **record.__dict__}
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: str(found[name]) for name in _KEPT if found.get(name)},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
