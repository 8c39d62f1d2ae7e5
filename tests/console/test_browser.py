"""The console in a real browser: every page as a person would use it, and as axe-core judges it."""

from __future__ import annotations

import pytest

from tests.console.browser import PHONE, Desk, all_day, desk, machine, overflow, violations
from tests.console.browser_settings import (
    test_a_destination_is_added_when_its_test_has_passed,
    test_a_schedule_is_made_paused_and_removed,
    test_setting_up_works_without_javascript,
)

__all__ = [
    "all_day",
    "desk",
    "machine",
    "test_a_destination_is_added_when_its_test_has_passed",
    "test_a_schedule_is_made_paused_and_removed",
    "test_setting_up_works_without_javascript",
]

PAGES = ["/access", "/nosuch", "/destinations", "/destinations/add?kind=b2", "/apps", "/schedules"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody_and_fits_a_phone(desk: Desk, scheme: str) -> None:
    for path in PAGES:
        page = desk.sit(path, color_scheme=scheme)
        assert violations(page) == []
        page.set_viewport_size(PHONE)
        assert overflow(page) <= 0, f"{path} is wider than a phone"
        assert violations(page) == []
