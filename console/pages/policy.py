"""What stays, as forms ask for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from console.fields import in_field
from console.pages.forms import Form
from vault.retention import RetentionPolicy

TYPES = (("", "all that it has"), ("database", "database"), ("files", "files"), ("full", "full: database and files"))
KEEP_FIELDS = (  # name, label, an example
    ("keep_last", "The newest", ""),
    ("keep_within", "All within", "2w"),
    ("keep_daily", "Days", ""),
    ("keep_weekly", "Weeks", ""),
    ("keep_monthly", "Months", ""),
    ("keep_yearly", "Years", ""),
    ("min_keep", "At least", ""),
)


_AT = re.compile(r"keep_at\.(.+)\.([a-z_]+)")


def policy(form: Form, at: str = "") -> RetentionPolicy | None:
    """What was typed, for all destinations or the one *at*; None where nothing was. ``Problem`` 422 names the field."""
    before = f"keep_at.{at}." if at else ""
    typed = {name: form.text(before + name) for name, _, _ in KEEP_FIELDS if form.text(before + name)}
    if not typed:
        return None
    rules: dict[str, Any] = {name: int(text) if text.isdecimal() else text for name, text in typed.items()}
    with in_field(f"keep_at.{at}" if at else "keep"):
        return RetentionPolicy(**rules)


def policies_at(form: Form, before: Mapping[str, Mapping[str, Any]], timezone: str) -> dict[str, RetentionPolicy]:
    """What was typed for single destinations, by name.

    *before*: what is saved for them. What counts there in another zone than *timezone*, its schedule's, still does.
    """
    found = {}
    for at in sorted({named[1] for name in form.values if (named := _AT.fullmatch(name))}):
        rules = policy(form, at)
        if rules is not None:
            zone = before.get(at, {}).get("timezone", timezone)
            found[at] = rules if zone == timezone else rules.model_copy(update={"timezone": zone})
    return found


def keep_values(keep: Mapping[str, Any] | None, at: str = "") -> dict[str, Any]:
    """The fields of the form, from what is saved."""
    return {(f"keep_at.{at}." if at else "") + name: (keep or {}).get(name) for name, _, _ in KEEP_FIELDS}
