"""The options that say which backups stay: of a schedule, and of ``backups prune``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from cli.saved import Repeated
from vault.errors import ConfigError, printable
from vault.retention import RetentionPolicy
from vault.store import check_name

_EXAMPLE = "An example: --keep-at offsite:last=30,monthly=12"
_RULES = ("last", "within", "daily", "weekly", "monthly", "yearly")


@Parameter(name="*")
@dataclass(frozen=True)
class Keep:
    """Which backups stay.

    Parameters
    ----------
    keep_last
        Keep so many of the newest backups at each destination.
    keep_within
        Keep what was made within such a time before the newest one: 36h, 7d, 2w.
    keep_daily
        Keep the last backup of each of so many days.
    keep_weekly
        Keep the last backup of each of so many weeks.
    keep_monthly
        Keep the last backup of each of so many months.
    keep_yearly
        Keep the last backup of each of so many years.
    min_keep
        Never keep fewer than so many, whatever the other rules say; at first 1.
    keep_at
        Other rules for one destination, such as offsite:last=30,monthly=12. Repeatable.
    """

    keep_last: int | None = None
    keep_within: str | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    min_keep: int | None = None
    keep_at: Annotated[list[str] | None, Repeated] = None

    def policy(self, timezone: str, before: dict[str, Any] | None = None) -> RetentionPolicy | None:
        """What is said of all destinations, else what was said *before*; days count in *timezone*."""
        rules = {name: value for name, value in asdict(self).items() if name != "keep_at" and value is not None}
        return _policy(rules or before or {}, timezone)

    def policies_at(self, timezone: str, before: dict[str, Any] | None = None) -> dict[str, RetentionPolicy]:
        """What is said of single destinations, by name, besides what was said of others *before*."""
        rules = {**(before or {}), **dict(map(_said_at, self.keep_at or []))}
        policies = {name: _policy(said, timezone) for name, said in rules.items()}
        return {name: policy for name, policy in policies.items() if policy is not None}


def _policy(rules: dict[str, Any], timezone: str) -> RetentionPolicy | None:
    return RetentionPolicy(**{**rules, "timezone": timezone}) if rules else None


def _said_at(text: str) -> tuple[str, dict[str, Any]]:
    name, colon, rules = text.partition(":")
    found: dict[str, Any] = {}
    for rule in rules.split(","):
        key, equals, value = rule.partition("=")
        if not (colon and equals and key in (*_RULES, "min") and value):
            raise ConfigError(f"{printable(text)[:80]!r} does not say what is to stay at a destination", _EXAMPLE)
        field = "min_keep" if key == "min" else f"keep_{key}"
        found[field] = int(value) if value.isdecimal() else value
    return check_name(name, "destination"), found
