"""What dead runs leave in a bucket: parts of uploads that nobody goes on with, and probes that could not be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from blocks.destinations.b2_bucket import Bucket, is_probe
from blocks.destinations.b2_errors import NotSupported, translated
from vault.errors import KeptByLock, NotFound
from vault.store import is_key


def drop_uploads(place: Bucket, before: datetime) -> Iterator[str]:
    """Drop each multipart upload, under a key of ours, that got no part since *before*; gives their names."""
    try:
        pages = list(place.pages("list_multipart_uploads", Prefix=place.prefix))
    except (NotSupported, NotFound):  # so some say that there is none
        return
    for upload in [upload for page in pages for upload in page.get("Uploads", [])]:
        key, begun = str(upload["Key"]).removeprefix(place.prefix), upload["Initiated"]
        if not is_key(key) or begun >= before:
            continue
        with suppress(NotFound), translated(place.what(key)):  # gone meanwhile: somebody else cleans too
            address = {**place.address(key), "UploadId": upload["UploadId"]}
            # One that takes more than a day is alive while parts arrive.
            parts = place.client.get_paginator("list_parts").paginate(**address)
            if max((part["LastModified"] for page in parts for part in page.get("Parts", [])), default=begun) < before:
                place.client.abort_multipart_upload(**address)
                yield key


def remove_probes(place: Bucket, before: datetime) -> Iterator[str]:
    """Remove each probe that a check wrote before *before* and could not delete then; gives their keys."""
    try:
        probes = _probes(place, "list_object_versions" if place.preset.versions else "list_objects_v2", before)
    except NotSupported:
        probes = _probes(place, "list_objects_v2", before)
    for key in sorted(probes):
        with suppress(KeptByLock):
            place.remove(key)
            yield key


def _probes(place: Bucket, listing: str, before: datetime) -> set[str]:
    found = set()
    for page in place.pages(listing, Prefix=f"{place.prefix}probe/"):
        for entry in [entry for kind in ("Contents", "Versions", "DeleteMarkers") for entry in page.get(kind, [])]:
            key = str(entry["Key"]).removeprefix(place.prefix)
            if is_probe(key) and entry["LastModified"] < before:
                found.add(key)
    return found
