"""Accounts, tokens and sessions. A password goes in and never comes out; a token comes out once."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from blocks.console_accounts import Scope
from blocks.passwords import LONGEST, SHORTEST
from console.models.common import Given, Name, Time


class Account(BaseModel):
    """A person who may log in."""

    name: str
    scope: Scope
    created_at: Time


class AddAccount(Given):
    """A new one."""

    name: Name
    scope: Scope
    password: SecretStr = Field(min_length=SHORTEST, max_length=LONGEST)


class ChangePassword(Given):
    """Another password, which ends all sessions of the account."""

    password: SecretStr = Field(min_length=SHORTEST, max_length=LONGEST)


class Token(BaseModel):
    """What a script may ask with. *expires_at* is None where it never does."""

    name: str
    scope: Scope
    created_at: Time
    expires_at: Time | None
    expired: bool


class AddToken(Given):
    """A new one. *days* until it expires; null: never."""

    name: Name
    scope: Scope
    days: int | None = Field(default=90, ge=1, le=3650)


class NewToken(BaseModel):
    """The token itself, which nobody can show again."""

    name: str
    token: str


class Asking(BaseModel):
    """Who asks here. *csrf_token* goes into the header X-CSRF-Token of whatever changes something."""

    name: str
    scope: Scope
    via: Literal["session", "token", "nobody"]
    csrf_token: str
