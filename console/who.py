"""Whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from blocks.console_accounts import SCOPES, Scope

__all__ = ["NOBODY", "SCOPES", "Scope", "Who"]


@dataclass(frozen=True)
class Who:
    """Whoever asks. *name* is what the audit says of him; *scope* the highest that he has."""

    name: str
    scope: Scope
    via: Literal["session", "token", "nobody"]

    def may(self, scope: Scope) -> bool:
        """Whether he has *scope*."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


NOBODY = Who("nobody (login is off)", "admin", "nobody")
"""Whoever asks where login is off."""
