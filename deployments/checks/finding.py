"""What a check found, and how checks are run: none of them ends the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import asdict, dataclass
from typing import Literal

from vault.errors import BackupError, printable

Level = Literal["ok", "skipped", "warning", "wrong"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and, where it should be otherwise, what to type."""

    level: Level
    check: str
    what: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """For ``--json``."""
        return asdict(self)


Check = Callable[[], Iterator[Finding]]


def ok(check: str, what: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", check, what)


def skipped(check: str, what: str) -> Finding:
    """It was not looked at, and why."""
    return Finding("skipped", check, what)


def warning(check: str, what: str, remedy: str) -> Finding:
    """Backups are made, and it should be otherwise all the same."""
    return Finding("warning", check, what, remedy)


def wrong(check: str, what: str, remedy: str) -> Finding:
    """Backups are not made, or somebody reads what he must not, or nobody hears of failures."""
    return Finding("wrong", check, what, remedy)


def run(checks: dict[str, Check], at_once: int = 8) -> list[Finding]:
    """What all of *checks* found, in their order. One that fails is itself a finding."""
    with ThreadPoolExecutor(at_once) as pool:
        jobs = [pool.submit(copy_context().run, _found, name, check) for name, check in checks.items()]
        return [finding for job in jobs for finding in job.result()]


def _found(name: str, check: Check) -> list[Finding]:
    found: list[Finding] = []
    try:
        found += check()
    except BackupError as error:
        found.append(wrong(name, error.message, error.remedy))
    except Exception as error:  # noqa: BLE001 - whatever it is: the other checks go on, and a person reads of it
        said = printable(str(error)).strip()[:300]
        found.append(wrong(name, f"could not be looked at: {type(error).__name__}: {said}", "See the server's log."))
    return found
