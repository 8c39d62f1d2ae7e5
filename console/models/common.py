"""What the others are made of."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from vault.errors import BackupError
from vault.store import NAME_PATTERN

Name = Annotated[str, Field(pattern=NAME_PATTERN, examples=["shop"])]
Time = Annotated[str, Field(examples=["2026-11-28T02:30:00Z"])]
Size = Annotated[int, Field(ge=0)]


class Given(BaseModel):
    """What a client sends: a member that is not known is refused, and never silently left out."""

    model_config = ConfigDict(extra="forbid")


class Trouble(BaseModel):
    """Something that could not be looked at, such as a destination that does not answer."""

    name: str
    detail: str
    remedy: str = ""

    @classmethod
    def of(cls, name: str, error: BackupError) -> Self:
        """That *error* kept one from looking at *name*."""
        return cls(name=name, detail=error.message, remedy=error.remedy)


class FieldError(BaseModel):
    """What is wrong with one member of what was sent."""

    field: str
    message: str


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457), and in *remedy* what to do about it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    remedy: str | None = None
    instance: str
    errors: list[FieldError] | None = Field(default=None, description="Of 422: field by field.")
