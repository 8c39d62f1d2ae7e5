"""Destinations: where backups go."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from console import destinations
from console.access import Admin, Reader
from console.destination_kinds import kinds
from console.models.destinations import (
    AddDestination,
    AskHostKey,
    ChangeDestination,
    Destination,
    DestinationKind,
    HostKeyShown,
    ProbeResult,
    TryDestination,
)

router = APIRouter(tags=["destinations"])
Force = Annotated[bool, Query(description="Whatever lies there, also where nobody can look. It stays there.")]
IfMatch = Annotated[str | None, Header(description="The ETag of what you have seen: 412 where it was changed since.")]
Confirm = Annotated[str | None, Query(description="The name, once more: this cannot be taken back.")]


@router.get("/destination-kinds")
def list_kinds(_who: Reader) -> list[DestinationKind]:
    """Every kind of destination, with the fields that it asks for."""
    return kinds()


@router.get("/backup-destinations")
def list_destinations(_who: Reader) -> list[Destination]:
    """Every saved destination: where it is, its last test, what lies there, and what uses it. Never a secret."""
    return destinations.list_destinations()


@router.post("/backup-destinations", status_code=HTTPStatus.CREATED)
def add_destination(given: AddDestination, _who: Admin, response: Response) -> Destination:
    """Test a destination, then save it. 422 with the failed step and what to do; 409 where the name is taken.

    A server whose host key is not given is answered with 422 and the members `host_key` and `fingerprint`: compare the
    fingerprint on the server, then send the key.
    """
    made = destinations.add_destination(given)
    response.headers["Location"] = f"/api/backup-destinations/{made.name}"
    return _tagged(made, response)


@router.get("/backup-destinations/{name}")
def get_destination(name: str, _who: Reader, response: Response) -> Destination:
    """A saved destination, with its ETag."""
    return _tagged(destinations.get_destination(name), response)


@router.put("/backup-destinations/{name}")
def change_destination(
    name: str, given: ChangeDestination, _who: Admin, response: Response, if_match: IfMatch = None
) -> Destination:
    """Test a changed destination, then save it. What is not sent stays, secrets too."""
    return _tagged(destinations.change_destination(name, given, if_match), response)


@router.delete("/backup-destinations/{name}", status_code=HTTPStatus.NO_CONTENT)
def remove_destination(name: str, _who: Admin, confirm: Confirm = None, force: Force = False) -> None:
    """Forget a destination; 409 while an app, a schedule or a backup there needs it: `used_by` says which."""
    destinations.remove_destination(name, confirm, force)


@router.post("/backup-destinations/{name}/test")
def probe_destination(name: str, _who: Admin) -> ProbeResult:
    """Really write, list, read back, compare and delete a probe. The result is remembered."""
    return destinations.test_destination(name)


@router.post("/destination-tests")
def try_destination(given: TryDestination, _who: Admin) -> ProbeResult:
    """Test a destination that is not saved."""
    return destinations.try_destination(given)


@router.post("/host-keys")
def host_key(given: AskHostKey, _who: Admin) -> HostKeyShown:
    """The host key that an SSH server shows now. The console connects to it: nothing but the handshake is said."""
    return destinations.host_key(given.host, given.port)


def _tagged(found: Destination, response: Response) -> Destination:
    response.headers["ETag"] = found.etag
    return found
