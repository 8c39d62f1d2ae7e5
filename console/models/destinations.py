"""Destinations and their tests."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from blocks.ssh.fields import HOST_PATTERN
from console.models.common import Given, Name, Size, Time, Trouble


class ProbeStep(BaseModel):
    """One step of a destination's test."""

    step: str
    seconds: float
    result: str
    remedy: str = ""


class ProbeResult(BaseModel):
    """A destination's test: it works when every step does."""

    works: bool
    at: Time
    steps: list[ProbeStep]


class Destination(BaseModel):
    """A saved destination. *fields* has its options; a secret is only said to be there or not."""

    name: str
    kind: str
    location: str
    fields: dict[str, Any]
    secrets: dict[str, bool] = Field(default={}, description="Whether each secret is set.")
    last_test: ProbeResult | None = None
    free_space: Size | None = None
    backups: int | None = Field(default=None, description="None before it was listed.")
    stored: Size | None = None
    used_by: list[str] = []
    trouble: Trouble | None = None
    etag: str = ""


class KindField(BaseModel):
    """A field of a kind, as a form asks for it. *choices*: what it may be, where it is one of a few."""

    name: str
    title: str
    description: str
    type: Literal["string", "integer", "number", "boolean"]
    required: bool
    secret: bool = Field(description="Write-only: it is taken, and never shown.")
    multiline: bool = Field(description="It has several lines, such as a private key.")
    fixed: bool = Field(description="It says which place this is: once saved, it cannot be changed.")
    advanced: bool = Field(description="Its default is right for most.")
    default: str | int | float | bool | None
    choices: list[str] | None


class DestinationKind(BaseModel):
    """A kind of destination, and what is asked of it."""

    kind: str
    title: str
    description: str
    fields: list[KindField]


class AddDestination(Given):
    """*fields* are those of the kind: see GET /api/destination-kinds. It is tested before it is saved."""

    name: Name
    kind: str
    fields: dict[str, Any]
    test: bool = True


class TryDestination(Given):
    """What is to be tested without being saved. *of*: a saved one of that kind, whose fields hold where none are sent.

    Testing claims the place as saving does: a directory that is missing is made, and marked.
    """

    kind: str
    fields: dict[str, Any]
    of: Name | None = None


class ChangeDestination(Given):
    """What is not sent stays as it was, secrets too."""

    fields: dict[str, Any]
    test: bool = True


class AskHostKey(Given):
    """An SSH server."""

    host: str = Field(pattern=HOST_PATTERN, max_length=253, examples=["nas.lan"])
    port: int = Field(default=22, ge=1, le=65535)


class HostKeyShown(BaseModel):
    """The key that a server shows now. Compare the fingerprint on the server before you pin it."""

    host_key: str = Field(examples=["ssh-ed25519 AAAA…"])
    fingerprint: str = Field(examples=["ssh-ed25519 SHA256:…"])
