"""Parts put into a directory of this machine: by descriptors of directories, and system calls that take one step."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from blocks.sources.in_place import InPlace
from blocks.sources.tree_local import EXCHANGE, NO_REPLACE, LocalTree, rename

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalInPlace(InPlace[Path]):
    """See ``InPlace``: a directory of this machine."""

    def staging(self) -> AbstractContextManager[Path]:
        """See ``InPlace.staging``."""
        return LocalTree(self.tree.host, self.tree.path / "part", self.tree.called).staging()

    def check(self, places: Sequence[bytes], overwrite: bool) -> None:
        """See ``InPlace.check``."""
        self.tree.check_place()
        for place in places:
            with self._opened(place) as (parent, rest):
                if not os.access(".", os.W_OK | os.X_OK, dir_fd=parent, effective_ids=True):
                    raise self.denied(place)
                if not overwrite and len(rest) == 1 and _is_there(parent, rest[0]):
                    raise self.exists(place)

    def put(self, new: Path, places: Sequence[bytes], overwrite: bool) -> None:
        """See ``InPlace.put``."""
        done: list[_Move] = []
        try:
            for place in places:
                if not any(_is_below(place, move.path) for move in done):
                    done.append(self._move(new, place, overwrite))
            self.tree.sync(self.tree.path)
        except BaseException:
            for move in reversed(done):
                with suppress(OSError):  # the first error is the one to tell
                    self._again(new, move)
            raise

    def _move(self, new: Path, place: bytes, overwrite: bool) -> _Move:
        with self._opened(place) as (parent, rest):
            path = place[: len(place) - len(b"/".join(rest))] + rest[0]
            replaces = overwrite and _is_there(parent, rest[0])
            try:
                rename(os.path.join(os.fsencode(new), path), rest[0], parent, EXCHANGE if replaces else NO_REPLACE)
            except FileExistsError as error:
                raise self.taken(place) from error
            except OSError as error:
                raise self.failed(place, str(error.strerror)) from error
        return _Move(path, replaces)

    def _again(self, new: Path, move: _Move) -> None:
        """Undo *move*: exchange the two once more, or take the new one back."""
        with self._opened(move.path) as (parent, rest):
            theirs = os.path.join(os.fsencode(new), move.path)
            if move.replaced:
                rename(theirs, rest[-1], parent, EXCHANGE)
            else:
                os.rename(rest[-1], theirs, src_dir_fd=parent)

    @contextmanager
    def _opened(self, place: bytes) -> Iterator[tuple[int, list[bytes]]]:
        """The last directory on the way to *place* that exists, open; and what is left of the way, one name or more."""
        rest = place.split(b"/")
        here = os.open(self.tree.path, _DIRECTORY)
        try:
            while len(rest) > 1:
                try:
                    below = os.open(rest[0], _DIRECTORY, dir_fd=here)
                except FileNotFoundError:
                    break
                except OSError as error:
                    raise self.unreachable(place, rest[0]) from error
                os.close(here)
                here, rest = below, rest[1:]
            yield here, rest
        finally:
            os.close(here)


@dataclass(frozen=True)
class _Move:
    """What was moved, by its path below the root, and whether something stood there."""

    path: bytes
    replaced: bool


def _is_below(place: bytes, path: bytes) -> bool:
    return (place + b"/").startswith(path + b"/")


def _is_there(parent: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
