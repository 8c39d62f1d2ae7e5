"""What a person wants to know first when a backup has failed: what there is to restore."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.log import run_log
from tasks.newest import Newest, newest_of
from tasks.preflight import Wanted
from vault.errors import BackupError


@contextmanager
def saying_what_is_left(wanted: Wanted) -> Iterator[None]:
    """An error that passes says also which backups there are, as far as that can be found out now."""
    try:
        yield
    except BackupError as error:
        try:
            error.remedy = f"{error.remedy}\n{last_good(wanted)}".strip()
        except Exception as other:  # noqa: BLE001 - whatever it is, the first error is the one to be told
            run_log().warning("the last good backup could not be looked up: %s", other)
        raise


def last_good(wanted: Wanted) -> str:
    """The newest valid backup of what is *wanted* at each destination, in a line."""
    kind, found = newest_of(wanted.app, wanted.type, wanted.destinations)
    return f"The last good backup of type {kind} at {'; '.join(map(_told, found))}"


def _told(newest: Newest) -> str:
    if newest.error:
        return f"{newest.destination}: it cannot be read now ({newest.error.message})"
    skipped = f" (passed over: {'; '.join(newest.passed_over)})" if newest.passed_over else ""
    return f"{newest.destination}: {newest.record.id if newest.record else 'none'}{skipped}"
