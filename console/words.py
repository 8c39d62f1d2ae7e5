"""Cron expressions in words."""

from __future__ import annotations

from cron_descriptor import FormatError, MissingFieldError, Options, WrongArgumentError, get_description


def words(cron: str) -> str:
    """What *cron*, an expression of five fields that holds, means in English; empty where nobody has words for it."""
    options = Options()
    options.locale_code = "en_US"
    options.use_24hour_time_format = True
    try:
        return str(get_description(cron, options))
    except (FormatError, MissingFieldError, WrongArgumentError, ValueError, IndexError):
        return ""
