"""Doors: destinations take and give back, sources can be read, by the tools that are there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from blocks.destinations.base import Destination
from blocks.loading import block_name
from blocks.sources import Source
from deployments.checks.apps import Inventory
from deployments.checks.finding import Check, Finding, ok, wrong
from vault.plan import MAX_SKEW


def doors(inventory: Inventory) -> dict[str, Check]:
    """A check for each destination, which writes a probe there and removes it, and for each source."""
    checks: dict[str, Check] = {}
    for ref, door in inventory.destinations.items():
        name = f"destination {block_name(ref)}"
        checks[name] = _arrives(name, door)
    for ref in sorted({ref for app in inventory.apps.values() for ref in app.sources} & {*inventory.sources}):
        name = f"source {block_name(ref)}"
        checks[name] = _reads(name, inventory.sources[ref])
    return checks


def _arrives(name: str, door: Destination) -> Check:
    def check() -> Iterator[Finding]:
        before = datetime.now(UTC)
        clock = door.clock()
        off = max(before - clock, clock - datetime.now(UTC))
        door.check()
        if off > MAX_SKEW:
            yield wrong(
                name,
                f"its clock and ours differ by {off.total_seconds() / 60:.0f} minutes: nothing is ever deleted there",
                "timedatectl set-ntp true, here or there",
            )
        else:
            yield ok(name, f"{door.location}: writes, lists, reads back, deletes")

    return check


def _reads(name: str, source: Source) -> Check:
    def check() -> Iterator[Finding]:
        yield ok(name, source.check())

    return check
