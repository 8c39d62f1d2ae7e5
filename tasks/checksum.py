"""Checksum: SHA-256 over what the spool holds, while it grows."""

from __future__ import annotations

import hashlib

from prefect import task

from tasks.policy import ONCE
from tasks.run import CHECKSUM, Sum, Transfer

_BLOCK = 1024 * 1024


def checksum_spool(transfer: Transfer) -> Sum:
    """Size and digest of the whole artifact, as every destination has to hold it."""
    digest, size, md5s = hashlib.sha256(), 0, []
    wants_md5 = any(place.wants_md5 for place in transfer.run.live.values())
    wants_whole = any(place.wants_whole_md5 for place in transfer.run.live.values())
    whole = hashlib.md5(usedforsecurity=False) if wants_whole else None
    reader = transfer.readers[CHECKSUM]
    try:
        for segment in reader:
            md5 = hashlib.md5(usedforsecurity=False)  # S3's, for its etag
            with segment.open() as stream:
                while data := stream.read(_BLOCK):
                    digest.update(data)
                    if wants_md5:
                        md5.update(data)
                    if whole is not None:
                        whole.update(data)
                    size += len(data)
            md5s.append(md5.hexdigest())
            reader.done(segment)
    finally:
        reader.close()
    return Sum(size, digest.hexdigest(), tuple(md5s) if wants_md5 else (), whole.hexdigest() if whole else "")


@task(name="checksum", task_run_name="checksum {transfer.source}", **ONCE)
def checksum(transfer: Transfer) -> Sum:
    """See ``checksum_spool``."""
    return checksum_spool(transfer)
