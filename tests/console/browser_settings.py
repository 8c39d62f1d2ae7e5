"""Destinations and schedules, as a person at a browser sets them up: tests that ``test_browser`` runs with its own."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.console.browser import PHONE, Desk, overflow, violations


def fine(page: Page) -> None:
    """It can be used by everybody, and on a phone."""
    assert violations(page) == []
    before = page.viewport_size
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert overflow(page) == 0
    assert before is not None
    page.set_viewport_size(before)


def test_a_destination_is_added_when_its_test_has_passed(desk: Desk, tmp_path: Path) -> None:
    page = desk.sit("/destinations")
    page.get_by_role("link", name="Add a destination").first.click()
    page.get_by_label("Name").fill("disk")
    root, tried = page.get_by_label("Root"), page.locator("#tried")
    root.fill(f"{tmp_path}/no/disk")
    page.get_by_role("button", name="Test connection").click()
    expect(tried).to_contain_text("It does not work yet.")
    expect(tried).to_contain_text("make the parent")
    fine(page)
    root.fill(f"{tmp_path}/disk")
    page.get_by_role("button", name="Test connection").click()
    expect(tried).to_contain_text("It works. Nothing is saved yet.")
    expect(page.get_by_label("Name")).to_have_value("disk")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved destination disk.")).to_be_visible()
    expect(page.locator("#destination-disk")).to_contain_text("works")
    fine(page)
    page.goto("/destinations/add?kind=sftp")
    fine(page)


def test_a_schedule_is_made_paused_and_removed(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a")
    desk.machine.run("app", "add", "browsed", "--source", f"{tmp_path}/files", "--to", f"{tmp_path}/there")
    page = desk.sit("/apps/browsed")
    fine(page)
    page.get_by_role("link", name="Add a schedule").click()
    page.get_by_label("When").fill("0 4 * * 0")
    expect(page.locator("[data-preview]")).to_contain_text("At 04:00, only on Sunday")
    expect(page.locator("[data-preview] li")).to_have_count(5)
    page.get_by_label("When").fill("0 4 * *")
    expect(page.locator("[data-preview]")).to_contain_text("five fields")
    page.get_by_label("When").fill("0 5 * * *")
    page.get_by_label("The newest", exact=True).fill("3")
    page.get_by_role("button", name="What would stay?").click()
    expect(page.locator("#retention")).to_contain_text("Nothing of it lies there yet.")
    fine(page)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved schedule browsed-backup.")).to_be_visible()
    fine(page)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused schedule browsed-backup.")).to_be_visible()
    expect(page.get_by_role("row", name="browsed-backup")).to_contain_text("paused")
    page.get_by_role("link", name="Remove").click()
    sheet = page.get_by_role("dialog")
    button = sheet.get_by_role("button", name="Remove it")
    expect(button).to_be_disabled()
    sheet.get_by_role("textbox").fill("browsed-backup")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text("Removed schedule browsed-backup.")).to_be_visible()
    expect(page.get_by_text("No schedule yet")).to_be_visible()


def test_what_stays_at_one_destination_is_edited_in_the_form_with_javascript_and_without(
    desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("a")
    for name in ("near", "far"):
        desk.machine.run("destination", "add", "local", name, f"{tmp_path}/{name}")
    desk.machine.run("app", "add", "kept", "--source", f"{tmp_path}/files", "--to", "near", "--to", "far")
    desk.machine.run("schedule", "add", "kept", "--cron", "0 4 * * *", "--keep-last", "7", "--keep-at", "far:yearly=5")
    for script, monthly in ((True, "6"), (False, "8")):
        page = desk.sit("/schedules/kept-backup/edit", java_script_enabled=script)
        years = page.get_by_label("Years at far", exact=True)
        expect(years).to_be_visible()
        expect(years).to_have_value("5")
        if script:  # none is saved for it yet
            expect(page.get_by_label("Months at near", exact=True)).to_be_hidden()
            page.get_by_text("Other rules at near").click()
        page.get_by_label("Months at near", exact=True).fill("x")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("alert")).to_contain_text("keep_at.near")
        page.get_by_label("Months at near", exact=True).fill(monthly)
        page.get_by_role("button", name="What would stay?").click()
        expect(page.locator("#retention")).to_contain_text("near")
        if script:
            fine(page)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("Changed schedule kept-backup.")).to_be_visible()
        kept = desk.machine.json("schedule", "show", "kept-backup")
        rules = {name: {**rules} for name, rules in kept["keep_at"].items()}
        assert (rules["near"]["keep_monthly"], rules["far"]["keep_yearly"]) == (int(monthly), 5)
    page.goto("/schedules/kept-backup/edit")
    page.get_by_label("Months at near", exact=True).fill("")
    page.get_by_label("Years at far", exact=True).fill("")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Changed schedule kept-backup.")).to_be_visible()
    kept = desk.machine.json("schedule", "show", "kept-backup")
    assert (kept["keep"]["keep_last"], kept["keep_at"]) == (7, None)


def test_setting_up_works_without_javascript(desk: Desk, tmp_path: Path) -> None:
    page = desk.sit("/destinations/add", java_script_enabled=False)
    page.get_by_label("Name").fill("plain")
    page.get_by_label("Root").fill(f"{tmp_path}/plain")
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("#tried")).to_contain_text("It works.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Saved destination plain.")).to_be_visible()
    page.locator("#destination-plain").get_by_role("link", name="Forget").click()
    page.get_by_role("textbox").fill("plain")
    page.get_by_role("button", name="Forget it").click()
    expect(page.get_by_text("Forgot destination plain.")).to_be_visible()
