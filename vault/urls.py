"""What a person types for a place: a path, or a URL, and never one with a password in it."""

from __future__ import annotations

import re
from urllib.parse import unquote

from vault.errors import ConfigError
from vault.store import is_path

_SECRET = re.compile("pass|pwd|secret|token", re.IGNORECASE)  # in the name of a parameter


def scheme_of(text: str) -> str:
    """The kind of URL that *text* is, in lower case; empty where it is none."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return match[1].lower() if match else ""


def refuse_password(text: str) -> None:
    """Pass unless *text* holds a password: it would be seen in the process list, and stored as a parameter.

    Whatever stands before the last ``@`` is taken for the user, and what comes after a ``:`` there for a password:
    passwords have ``/``, ``?``, ``#`` and ``@`` in them, and then a URL is not what it looks like.
    """
    scheme = scheme_of(text)
    rest = text.partition("://")[2] if scheme else text
    if scheme in ("", "sqlite") and is_path(rest):
        return
    names = [unquote(part.partition("=")[0]) for part in re.split("[?&;#]", rest)[1:]]
    if ":" in rest.rpartition("@")[0] or any(_SECRET.search(name) for name in names):
        raise ConfigError(
            "a password in a URL can be seen by others on this machine",
            "Leave it out: put it into ~/.pgpass, or save the source (`backups source add`), which asks for it.",
        )
