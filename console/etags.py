"""ETags: whoever changes something says which state of it he has seen, so that nobody's change is lost in silence."""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from typing import Any

from console.problems import Problem


def etag(*state: Any) -> str:
    """The ETag of a *state* that JSON can have; it never lets a secret through, yet none should be given."""
    text = json.dumps(state, sort_keys=True, default=str)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def refuse_stale(if_match: str | None, current: str) -> None:
    """Pass where nothing is asked for, or *current* is among it; else ``Problem`` 412."""
    wanted = [one.strip() for one in (if_match or "").split(",") if one.strip()]
    if wanted and "*" not in wanted and current not in wanted:
        raise Problem(
            HTTPStatus.PRECONDITION_FAILED,
            "it was changed since you looked at it",
            "Get it again, then send your change with its new ETag.",
        )
