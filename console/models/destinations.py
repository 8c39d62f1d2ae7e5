"""Destinations and their tests."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

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


class AddDestination(Given):
    """*fields* are those of the kind: see GET /api/destination-kinds. It is tested before it is saved."""

    name: Name
    kind: str
    fields: dict[str, Any]
    test: bool = True


class ChangeDestination(Given):
    """What is not sent stays as it was, secrets too."""

    fields: dict[str, Any]
    test: bool = True
