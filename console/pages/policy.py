"""What stays, as forms ask for it."""

from __future__ import annotations

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


def policy(form: Form) -> RetentionPolicy | None:
    """What was typed; None where nothing was. ``Problem`` 422 at ``keep`` where it cannot be."""
    typed = {name: form.text(name) for name, _, _ in KEEP_FIELDS if form.text(name)}
    if not typed:
        return None
    rules: dict[str, Any] = {name: int(text) if text.isdecimal() else text for name, text in typed.items()}
    with in_field("keep"):
        return RetentionPolicy(**rules)


def keep_values(keep: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of the form, from what is saved."""
    return {name: (keep or {}).get(name) for name, _, _ in KEEP_FIELDS}
