"""From a whole, hidden file to an object: it gets its name, where no other object has it.

Drive lets two files have one name, and has no step that renames only when a name is free. So whoever takes a name
looks before and after. Who finds other bytes under it gives way; where two find each other, both do. Of files with the
same bytes the oldest one stays, whoever wrote it: everybody counts the same one as the oldest.
"""

from __future__ import annotations

import hashlib

from blocks.destinations.google_drive_read import opened
from blocks.destinations.google_drive_tree import DriveFile, Tree
from vault.errors import AlreadyExists, DestinationUnavailable
from vault.store import StoredObject

_BLOCK = 1024 * 1024


def publish(tree: Tree, key: str, file: DriveFile) -> StoredObject:
    """The object *key*, which is *file* or has the same bytes; else *file* is deleted and ``AlreadyExists`` raised."""
    app, _, name = key.partition("/")
    if file.name != name:
        found = tree.named(app, name)
        if not found:
            file = tree.rename(file, name)
            found = _after(tree, app, file)
    else:  # by an earlier try, whose answer was lost
        found = _after(tree, app, file)
    same = [other for other in found if other.id == file.id or _same(tree, other, file)]
    if len(same) < len(found):
        tree.delete(file.id)
        raise AlreadyExists(f"{key} at {tree.api.location} is there already, with other content")
    for surplus in {other.id for other in (*same, file)} - {same[0].id}:
        tree.delete(surplus)
    tree.known[key] = same[0].id, same[0].size
    return same[0].stored(key)


def _after(tree: Tree, app: str, file: DriveFile) -> list[DriveFile]:
    """The files of that name, as soon as Drive lists ours: its lists lag behind (T14)."""
    failed = 0
    while True:
        found = tree.named(app, file.name)
        if any(other.id == file.id for other in found):
            return found
        tree.get(file.id)  # NotFound where somebody deleted it, and not only the list lags
        failed += 1
        error = DestinationUnavailable(f"{tree.api.location} does not list {file.name}, which it has just taken")
        tree.api.wait_or_raise(failed, error, None)


def _same(tree: Tree, one: DriveFile, other: DriveFile) -> bool:
    """Whether two files hold the same bytes, as Google's own digests say; without them, as their bytes say."""
    if one.size != other.size:
        return False
    if one.sha256 and other.sha256:
        return one.sha256 == other.sha256
    if one.md5 and other.md5:
        return one.md5 == other.md5
    return _sha256(tree, one) == _sha256(tree, other)


def _sha256(tree: Tree, file: DriveFile) -> str:
    digest = hashlib.sha256()
    with opened(tree.api, file.id, file.size, file.name) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
