"""Checksum: SHA-256 over what the spool holds, while it grows."""

from __future__ import annotations

import hashlib

from prefect import task

from tasks.policy import ONCE
from tasks.run import CHECKSUM, Sum, Transfer

_BLOCK = 1024 * 1024


def checksum_spool(transfer: Transfer) -> Sum:
    """Size and digest of the whole artifact, as every destination has to hold it."""
    digest, size = hashlib.sha256(), 0
    reader = transfer.readers[CHECKSUM]
    try:
        for segment in reader:
            with segment.open() as stream:
                while data := stream.read(_BLOCK):
                    digest.update(data)
                    size += len(data)
            reader.done(segment)
    finally:
        reader.close()
    return Sum(size, digest.hexdigest())


@task(name="checksum", task_run_name="checksum {transfer.source}", **ONCE)
def checksum(transfer: Transfer) -> Sum:
    """See ``checksum_spool``."""
    return checksum_spool(transfer)
