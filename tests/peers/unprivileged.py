"""Servers that refuse to run as root: who they run as, and how they end with the tests."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def owner_of(place: Path) -> pwd.struct_passwd | None:
    """Who is to run what lies in *place*, which is given to him; None for ourselves, where we are not root."""
    if os.getuid() != 0:
        return None
    user = pwd.getpwnam("nobody")
    os.chown(place, user.pw_uid, user.pw_gid)
    return user


def run_as(user: pwd.struct_passwd | None) -> list[str]:
    """What goes before an argv so that *user* runs it, and it is killed when we end."""
    tied = ["setpriv", "--pdeathsig", "KILL"]
    if user is None:
        return [*tied, "--"]
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # Changing the user clears the death signal: it is set after that.
    return ["setpriv", *ids, "--", *tied, "--"]
