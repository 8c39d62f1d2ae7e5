"""Sizes and times as people read them."""

from __future__ import annotations

from datetime import timedelta


def human(size: float) -> str:
    """Bytes: ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def age(time: timedelta) -> str:
    """How long: ``14 min``, ``26 h``, ``3 days``."""
    hours = time.total_seconds() / 3600
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
