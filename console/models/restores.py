"""Restores."""

from __future__ import annotations

from pydantic import BaseModel, Field

from console.models.common import Given, Name, Size


class StartRestore(Given):
    """Where a restore goes. With neither *target* nor *targets*, each source goes back to where it lies.

    *confirm* has to be the app's name wherever something may be replaced: in place, or with *overwrite*.
    """

    destination: Name | None = Field(default=None, description="Where it is read from; at first the app's own.")
    source: Name | None = None
    target: str | None = Field(default=None, min_length=1, examples=["/srv/restored"])
    targets: dict[Name, str] = Field(default_factory=dict)
    server: Name | None = None
    paths: list[str] = Field(default_factory=list)
    tables: list[str] = Field(default_factory=list)
    overwrite: bool = False
    create_roles: bool = False
    identity_file: str | None = Field(default=None, description="The file with the age identity, on the worker.")
    confirm: str | None = None


class Outlook(BaseModel):
    """What a restore will do with one source. *there*: what its target holds now; *refused*: why it will not."""

    source: str
    kind: str
    size: Size
    target: str
    there: str
    what_happens: str
    refused: str | None = None
    remedy: str = ""


class RestorePreview(BaseModel):
    """What a restore would do, in this order, as seen from the machine of the console."""

    id: str
    app: str
    destination: str
    sources: list[Outlook]
    warnings: list[str] = []
