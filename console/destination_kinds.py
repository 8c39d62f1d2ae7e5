"""The kinds of destinations, as forms ask for their fields: read from the blocks themselves."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from blocks.destinations import DESTINATIONS, Destination
from blocks.loading import block_name
from console.models.destinations import DestinationKind, KindField
from console.problems import Problem

_SUFFIX = "-destination"
_UNSENT = {"marker", "client_id", "client_secret", "refresh_token"}
"""Filled in by itself; or made where a person authorises an OAuth client, which is done by command."""
_FIXED = {"bucket", "prefix", "folder_id", "shared_drive"}
"""Another one of these is another place. A root may move: its marker file says whether it is the same."""
_ADVANCED = {
    *("max_runs", "max_wait", "bandwidth", "connect_timeout", "idle_timeout", "agent"),
    *("provider", "region", "parallel_parts", "object_lock_days", "ca_file", "scope"),
}
_MULTILINE = {"private_key", "service_account_key"}
_TITLES = {
    "local": "Local directory",
    "b2": "Backblaze B2, or another S3 store",
    "sftp": "SFTP server",
    "google-drive": "Google Drive",
}
_SEEN_BY_ALL = " It is a path of the machine of this console, and of each machine on which a worker runs."
_OAUTH = (
    "\n\nHere it takes the key of a service account. A person's own Drive (OAuth) is authorised in a browser:"
    " backups destination add google-drive NAME --oauth --client-secrets FILE"
)
_MORE = {
    ("local", "root"): _SEEN_BY_ALL,
    ("b2", "ca_file"): _SEEN_BY_ALL,
    ("sftp", "agent"): " The test here takes that of this console.",
}


def kinds() -> list[DestinationKind]:
    """Every kind."""
    return [_kind(_short(slug), own) for slug, own in DESTINATIONS.items()]


def kind_of(ref: str) -> str:
    """The kind of a saved destination, such as ``sftp``, from its reference."""
    return _short(ref.partition("/")[0])


def class_of(kind: str) -> type[Destination]:
    """The block of *kind*; ``Problem`` 422 where there is no such kind."""
    found = DESTINATIONS.get(f"{_short(kind)}{_SUFFIX}")
    if found is None:
        known = ", ".join(map(_short, DESTINATIONS))
        message = f"has to be one of: {known}"
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"kind: {message}", errors=[{"field": "kind", "message": message}]
        )
    return found


def sent(kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """The fields that a client sent for *kind*, checked against what there is to be sent: ``Problem`` 422 else."""
    known = {field.name for field in _kind(_short(kind), class_of(kind)).fields}
    refuse({name: "is not a field of this kind that can be sent" for name in given if name not in known})
    return given


def refuse_moved(before: Destination, after: Destination) -> None:
    """Pass where both are the same place; another bucket or folder is a destination of its own."""
    fixed = sorted(_FIXED & set(type(before).model_fields))
    moved = [name for name in fixed if getattr(before, name) != getattr(after, name)]
    refuse(dict.fromkeys(moved, "cannot be changed: another one is a destination of its own"))


def refuse(found: dict[str, str]) -> None:
    """``Problem`` 422 with what is wrong with each field; nothing where nothing is."""
    if found:
        errors = [{"field": f"fields.{name}", "message": message} for name, message in found.items()]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, "See GET /api/destination-kinds.", errors=errors)


def secrets_of(own: type[Destination]) -> set[str]:
    """The names of its secret fields."""
    return {name for name, one in own.model_json_schema()["properties"].items() if one.get("writeOnly")}


def shown(fields: dict[str, Any], own: type[Destination]) -> dict[str, Any]:
    """Of a block's public fields, those that a client may see: no secret, not even masked."""
    hidden = secrets_of(own) | {"marker"}
    return {name: value for name, value in fields.items() if name not in hidden}


def _short(slug: str) -> str:
    return block_name(slug).removesuffix(_SUFFIX)


def _kind(kind: str, own: type[Destination]) -> DestinationKind:
    schema = own.model_json_schema()
    properties = sorted(schema["properties"].items(), key=lambda item: item[1]["position"])
    required = schema.get("required", [])
    return DestinationKind(
        kind=kind,
        title=_TITLES.get(kind, schema["title"]),
        description=" ".join(schema["description"].split("\n\n")[0].split())
        + (_OAUTH if kind == "google-drive" else ""),
        fields=[
            _field(kind, name, one, name in required or (kind, name) == ("google-drive", "service_account_key"))
            for name, one in properties
            if name not in _UNSENT
        ],
    )


def _field(kind: str, name: str, one: dict[str, Any], required: bool) -> KindField:
    secret = bool(one.get("writeOnly"))
    return KindField(
        name=name,
        title=name.replace("_", " ").capitalize().replace(" id", " ID"),
        description=one.get("description", "") + _MORE.get((kind, name), ""),
        type=one["type"],
        required=required,
        secret=secret,
        multiline=name in _MULTILINE,
        fixed=name in _FIXED,
        advanced=name in _ADVANCED,
        default=None if secret or required else one.get("default"),
        choices=one.get("enum"),
    )
