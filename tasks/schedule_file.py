"""Schedules in a file: what ``backups schedule list --json`` prints. Whatever is odd is refused, not guessed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from prefect.exceptions import ParameterTypeError
from prefect.flows import Flow

from blocks.app import APP_SLUG
from blocks.loading import block_name
from blocks.ping import PING_SLUG
from blocks.sources import SOURCES
from tasks.schedules import PARAMETERS, Schedule, When
from vault.errors import ConfigError, printable
from vault.store import check_name

Saved = Mapping[str, Mapping[str, Any]]
"""What is written in each saved block, by its reference."""

_TOLD = {"next_run_at", "next_run_at_local", "overdue_since"}  # what only `list` knows
_OTHERS = {"name", "when", "active", "grace_hours", "pool"}
_EXAMPLE = (
    'One entry: {"name": "shop-full", "app": "shop", "when": ["30 2 * * * Europe/Paris"], "keep": {"keep_last": 7}}.'
    " `backups schedule list --json` prints such a file."
)


def read(text: str, pool: str) -> list[Schedule]:
    """The schedules in *text*, which is a JSON list; each in *pool*, where it names none.

    ``ConfigError`` where an entry says what cannot be, or what is unknown; it is named.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"that is no JSON: {printable(str(error))[:100]}", _EXAMPLE) from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError("that is no list of schedules", _EXAMPLE)
    schedules = [_schedule(number, entry, pool) for number, entry in enumerate(entries, 1)]
    for name, times in Counter(schedule.name for schedule in schedules).items():
        if times > 1:
            raise ConfigError(f"schedule {name} is in the list {times} times", "Leave one of them.")
    return schedules


def check(schedules: list[Schedule], flow: Flow[..., Any], saved: Saved) -> None:
    """What the first run of each would find: that *flow* takes its parameters, and that what it names is *saved*."""
    for schedule in schedules:
        try:
            flow.validate_parameters(schedule.parameters)
        except ParameterTypeError as error:
            lines = [line for line in str(error).splitlines() if "errors.pydantic.dev" not in line]
            raise _wrong(schedule.name, printable(" ".join(lines))[:300]) from None
        for problem in _lacking(schedule, saved):
            raise _wrong(schedule.name, problem)


def _schedule(number: int, entry: dict[str, Any], pool: str) -> Schedule:
    name = entry.get("name")
    if not isinstance(name, str):
        raise ConfigError(f"entry {number} has no name", _EXAMPLE)
    check_name(name, "schedule")
    unknown = sorted(entry.keys() - {*PARAMETERS} - _OTHERS - _TOLD)
    if unknown:
        raise _wrong(name, f"there is nothing that is called {printable(unknown[0])[:80]!r}")
    times, grace, active, where = (entry.get(field) for field in ("when", "grace_hours", "active", "pool"))
    if not isinstance(times, list) or not times or not all(isinstance(time, str) for time in times):
        raise _wrong(name, '"when" has to be a list of cron expressions, each with its time zone')
    if not isinstance(grace, int | float | None) or not isinstance(active, bool | None):
        raise _wrong(name, '"grace_hours" has to be a number, and "active" true or false')
    if not isinstance(where, str | None):
        raise _wrong(name, '"pool" has to be a name')
    return Schedule(
        name,
        tuple(_when(name, time) for time in times),
        {field: entry[field] for field in PARAMETERS if entry.get(field) not in (None, [])},
        active=active is not False,
        grace_hours=grace,
        pool=where or pool,
    )


def _when(name: str, text: str) -> When:
    cron, _, timezone = text.rpartition(" ")
    try:
        return When(cron, timezone)
    except ConfigError as error:
        raise ConfigError(f"schedule {name}: {error.message}", error.remedy) from None


def _lacking(schedule: Schedule, saved: Saved) -> Iterator[str]:
    app = saved.get(f"{APP_SLUG}/{schedule.app}")
    if app is None:
        yield f"there is no app {schedule.app}"
        return
    goes_to = schedule.destinations or list(app.get("destinations", []))
    if not goes_to:
        yield "no destination is named, and its app has none"
    for ref in (*goes_to, *([f"{PING_SLUG}/{schedule.ping}"] if schedule.ping else [])):
        if ref not in saved:
            yield f"{ref} is not saved"
    for name in schedule.parameters.get("keep_at") or {}:
        if name not in map(block_name, goes_to):
            yield f"keep_at names {name}, to which it does not go"
    kinds = {SOURCES[slug].category for ref in app.get("sources", []) if (slug := ref.partition("/")[0]) in SOURCES}
    if (kind := schedule.parameters.get("type")) in ("database", "files") and kind not in kinds:
        yield f"its app has no {kind} source"


def _wrong(name: str, what: str) -> ConfigError:
    return ConfigError(f"schedule {name}: {what}", _EXAMPLE)
