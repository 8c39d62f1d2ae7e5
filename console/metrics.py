"""Figures for Prometheus, of saved apps at saved destinations only: no name from elsewhere makes a new series."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from console.entries import Held, destinations_meant
from console.listing import LISTING, PATIENCE, Look
from console.status import SCHEDULES, WORKERS, owed
from vault.record import parse_utc

_LABELS = ("app", "destination")
_DAYS = timedelta(days=30)

Place = tuple[str, str]
"""App and destination."""


class _Backups(Collector):
    def collect(self) -> Iterator[Metric]:
        """All of them, as they are known now."""
        now, look = datetime.now(UTC), LISTING.look()
        owing = owed(look, SCHEDULES.get(PATIENCE).value or [])
        places, newest, counts = _places(look), _newest(look), _counts(look)
        for name, text, value in (
            ("last_success_timestamp_seconds", "When the newest good backup was complete", _completed),
            ("last_success_size_bytes", "Bytes of the newest good backup there", lambda held: float(held.size or 0)),
            ("last_success_duration_seconds", "Seconds that the newest good backup took", _took),
        ):
            yield _gauge(name, text, {place: value(held) for place, held in newest.items()})
        late = {place: (now - owing[place]).total_seconds() if place in owing else 0.0 for place in places}
        yield _gauge("overdue_seconds", "Seconds since a backup is missing that was due; 0: none is", late)
        failed = _failed(look, now)
        yield _gauge(
            "failed_runs",
            f"Runs of the last {_DAYS.days} days that left no backup there",
            {place: float(failed[place]) for place in places},
        )
        for status in ("committed", "damaged"):
            yield _gauge(
                f"{status}_backups",
                f"How many backups are {status} there",
                {place: float(counts[status, *place]) for place in places},
            )
        yield from _others(look)


def metrics() -> bytes:
    """All figures, as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(_Backups())
    return generate_latest(registry)


def _others(look: Look) -> Iterator[Metric]:
    up = GaugeMetricFamily("backups_destination_up", "Whether the destination could be listed", labels=["destination"])
    unread = {trouble.name for trouble in look.troubles}
    for name in sorted(look.destinations):
        up.add_metric([name], float(name not in unread))
    yield up
    workers = WORKERS.get(PATIENCE).value
    yield GaugeMetricFamily("backups_workers_online", "Workers that take what is asked for", value=workers or 0)


def _gauge(name: str, text: str, values: dict[Place, float]) -> Metric:
    gauge = GaugeMetricFamily(f"backups_{name}", text, labels=_LABELS)
    for place, value in sorted(values.items()):
        gauge.add_metric(place, value)
    return gauge


def _places(look: Look) -> set[Place]:
    """Those of which something is said: where saved apps go, and where backups of them lie."""
    meant = {(app, place) for app, saved in look.apps.items() for place in saved.destinations}
    there = {(app, copy.destination) for app in look.apps for copy in _copies(look, app)}
    return {place for place in meant | there if place[1] in look.destinations}


def _newest(look: Look) -> dict[Place, Held]:
    newest: dict[Place, Held] = {}
    for app in look.apps:
        for entry in look.backups.by_app.get(app, ()):
            for copy in () if entry.from_the_future else entry.committed:
                newest.setdefault((app, copy.destination), copy)
    return newest


def _counts(look: Look) -> Counter[tuple[str, str, str]]:
    found = (copy for app in look.apps for copy in _copies(look, app))
    return Counter(("committed" if c.status == "committed" else "damaged", c.app, c.destination) for c in found)


def _copies(look: Look, app: str) -> Iterator[Held]:
    return (copy for entry in look.backups.by_app.get(app, ()) for copy in entry.copies)


def _failed(look: Look, now: datetime) -> Counter[Place]:
    usual = {name: app.destinations for name, app in look.apps.items()}
    failed: Counter[Place] = Counter()
    for app in look.apps:
        for entry in look.backups.by_app.get(app, ()):
            if entry.status in ("failed", "partial") and entry.run and parse_utc(entry.created_at) > now - _DAYS:
                good = {copy.destination for copy in entry.committed}
                failed.update((app, place) for place in destinations_meant(entry.run, usual) if place not in good)
    return failed


def _completed(held: Held) -> float:
    return parse_utc(held.completed_at or held.created_at).timestamp()


def _took(held: Held) -> float:
    return _completed(held) - parse_utc(held.created_at).timestamp()
