"""Verify: prove what the destination holds, by its own digest or by reading it back (law 7)."""

from __future__ import annotations

from typing import BinaryIO

from prefect import task

from blocks.destinations.base import Destination
from tasks.policy import STEP
from tasks.run import Sum, Transfer
from vault.errors import ReadBackMismatch
from vault.log import about
from vault.milestone import milestone
from vault.record import Verification
from vault.streams import Digesting

_BLOCK = 1024 * 1024


def verify_object(store: Destination, key: str, expected: Sum) -> Verification:
    """How the copy under *key* was proven to be *expected*; ``ReadBackMismatch`` where it is not.

    A digest of the server's that fits is proof. Where there is none, or it is another one, reading back decides.
    """
    digest = store.digest(key)
    if digest is not None and expected.fits(digest) and store.stat(key).size == expected.size:
        return "server-digest"
    with store.open(key) as stream:
        found = sum_of(stream)
    if found != expected:
        raise ReadBackMismatch(
            f"{store.location} holds {found.size} bytes with SHA-256 {found.sha256[:16]}… as {key};"
            f" sent were {expected.size} bytes with {expected.sha256[:16]}…",
            "Test that destination: its disk, memory or network changes data.",
        )
    return "read-back"


def sum_of(stream: BinaryIO) -> Sum:
    """Size and digest of what *stream* gives."""
    reader = Digesting(stream)
    buffer = bytearray(_BLOCK)
    while reader.readinto(buffer):
        pass
    return Sum(reader.size, reader.sha256)


@task(name="verify", task_run_name="verify {transfer.source} at {destination}", **STEP)
def verify(transfer: Transfer, destination: str, expected: Sum) -> Verification:
    """See ``verify_object``."""
    with about(source=transfer.source, destination=destination), transfer.timed(f"verify {destination}"):
        how = verify_object(transfer.run.destinations[destination], transfer.key, expected)
    milestone("verify:done")
    return how
