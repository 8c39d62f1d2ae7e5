"""Small charts of backups over time, drawn by the server; each has its figures in words too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from console.models.backups import Backup
from console.pages.rendering import duration, moment
from vault.units import human

WIDTH, HEIGHT = 480.0, 96.0
_GAP = 0.25  # of the place of a bar
_LOWEST = 1.5  # a bar that is there is seen


@dataclass(frozen=True)
class Bar:
    """One backup; *x*, *y*, *width* and *height* in the units of the chart."""

    x: float
    y: float
    width: float
    height: float
    id: str
    at: str
    words: str


@dataclass(frozen=True)
class Chart:
    """Bars, the oldest first. *summary* says in words what one would see."""

    title: str
    bars: list[Bar]
    top: str
    summary: str


def charts(backups: Iterable[Backup]) -> list[Chart]:
    """Size and duration of the committed ones; of the type that most of them have. Without two there is no chart."""
    whole = [one for one in backups if one.size is not None and one.completed_at and one.type]
    if not whole:
        return []
    kind = Counter(one.type for one in whole).most_common(1)[0][0]
    rows = sorted((one for one in whole if one.type == kind), key=lambda one: one.created_at)
    if len(rows) < 2:
        return []
    return [
        _chart(f"Size of {kind} backups", rows, lambda one: float(one.size or 0), lambda one: human(one.size or 0)),
        _chart(f"Duration of {kind} backups", rows, _seconds, lambda one: duration(one.created_at, one.completed_at)),
    ]


def _chart(title: str, rows: list[Backup], value: Callable[[Backup], float], words: Callable[[Backup], str]) -> Chart:
    most, least = max(rows, key=value), min(rows, key=value)
    step = WIDTH / max(len(rows), 12)
    bars = []
    for number, one in enumerate(rows):
        height = max(_LOWEST, HEIGHT * value(one) / (value(most) or 1.0))
        bars.append(
            Bar(
                round(number * step + step * _GAP / 2, 1),
                round(HEIGHT - height, 1),
                round(step * (1 - _GAP), 1),
                round(height, 1),
                one.id,
                one.created_at,
                words(one),
            )
        )
    summary = f"{title}: the last {len(rows)}, from {words(least)} to {words(most)}; the newest {words(rows[-1])}"
    return Chart(title, bars, words(most), summary)


def _seconds(one: Backup) -> float:
    begun, ended = moment(one.created_at), moment(one.completed_at)
    return max(0.0, (ended - begun).total_seconds()) if begun and ended else 0.0
