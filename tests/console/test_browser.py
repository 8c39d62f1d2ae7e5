"""The console in a real browser: what a person does with it, and what axe-core says of every page."""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.console.browser import PATIENCE, PHONE, Desk, all_day, console, desk, machine, overflow, violations
from tests.console.browser_settings import (
    test_a_destination_is_added_when_its_test_has_passed,
    test_a_schedule_is_made_paused_and_removed,
    test_setting_up_works_without_javascript,
    test_what_stays_at_one_destination_is_edited_in_the_form_with_javascript_and_without,
)
from tests.console.hostile import ID, RUN, TEXT
from tests.peers.command import Machine

__all__ = [
    "all_day",
    "desk",
    "machine",
    "test_a_destination_is_added_when_its_test_has_passed",
    "test_a_schedule_is_made_paused_and_removed",
    "test_setting_up_works_without_javascript",
    "test_what_stays_at_one_destination_is_edited_in_the_form_with_javascript_and_without",
]
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Path:
    """An app with a database and files, which goes to ``shelf``; the directory that holds all of it."""
    root = machine.home.parent / "shop"
    (root / "uploads").mkdir(parents=True)
    (root / "uploads/a.txt").write_text("a")
    with closing(sqlite3.connect(root / "shop.sqlite")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    machine.run("destination", "add", "local", "shelf", str(root / "shelf"))
    sources = ("--source", f"shop-db={root}/shop.sqlite", "--source", f"shop-uploads={root}/uploads")
    machine.run("app", "add", "shop", *sources, "--to", "shelf")
    return root


@pytest.fixture(scope="module")
def backup(machine: Machine, shop: Path) -> str:
    """The id of a backup that is there."""
    machine.run("run", "shop")
    return str(machine.json("list", "shop")[-1]["id"])


def records(shop: Path) -> set[str]:
    return {path.stem for path in (shop / "shelf/shop").glob("*.json")}


def run_ends_well(page: Page) -> None:
    """Wait for the run that *page* shows, without touching it."""
    page.wait_for_url("**/runs/*")
    page.evaluate("window.untouched = true")
    expect(page.locator("#run .badge.good")).to_have_text("success")
    assert page.evaluate("window.untouched"), "the page was loaded again"


def test_a_backup_is_created_by_keyboard_alone_and_progresses_to_success_before_ones_eyes(
    desk: Desk, shop: Path
) -> None:
    page = desk.sit("/backups?app=shop")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Create backup")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("App")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.locator(":focus")).to_have_text("Create backup")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("App")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.type("files")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    run_ends_well(page)
    page.get_by_role("link", name="The backup").click()
    expect(page.get_by_role("heading", name="Copies").locator("..")).to_contain_text("shelf read back")
    (name,) = records(shop)
    assert "-files-" in name


def test_a_restore_shows_what_it_will_do_takes_the_apps_name_and_refuses_what_is_in_the_way(
    desk: Desk, shop: Path, backup: str
) -> None:
    target = shop / "restored"
    page = desk.sit(f"/backups/{backup}")
    page.get_by_role("link", name="Restore").click()
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.locator("#error-target")).to_contain_text("say where to")
    page.locator("#field-target").fill(str(target))
    page.get_by_role("button", name="Show what would happen").click()
    expect(page.get_by_role("row", name="shop-db")).to_contain_text("nothing")
    button = page.get_by_role("button", name="Restore")
    expect(button).to_be_disabled()
    page.get_by_label("Type shop to confirm").fill("shop")
    button.click()
    run_ends_well(page)
    assert (target / "shop-uploads/a.txt").read_text() == "a"

    page.goto(f"/backups/{backup}/restore?{urlencode({'where': 'elsewhere', 'target': str(target)})}")
    expect(page.get_by_role("row", name="shop-uploads")).to_contain_text("refused")
    expect(page.get_by_role("button", name="Restore")).to_have_count(0)
    assert violations(page) == []


def test_a_backup_is_pinned_and_deleted_only_by_who_types_its_id_and_means_it(
    desk: Desk, shop: Path, backup: str
) -> None:
    page = desk.sit("/backups?type=full")
    page.get_by_role("button", name=f"Pin {backup}").click()
    expect(page.locator(".flash")).to_contain_text("is pinned")
    page.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog")
    button = dialog.get_by_role("button", name="Delete backup")
    dialog.get_by_label("to confirm").fill("shop")
    expect(button).to_be_disabled()
    dialog.get_by_label("to confirm").fill(backup[-6:])
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("it is pinned")
    assert backup in records(shop)
    assert violations(page) == []
    page.get_by_label("Delete it all the same").check()
    page.get_by_label("to confirm").fill(backup[-6:])
    page.get_by_role("button", name="Delete backup").click()
    expect(page.locator(".flash")).to_contain_text("was deleted")
    expect(page.locator("main")).not_to_contain_text(f"Restore {backup}")
    assert backup not in records(shop)


def test_all_of_it_works_without_javascript(desk: Desk, shop: Path) -> None:
    before = records(shop)
    page = desk.sit("/backups?app=shop", java_script_enabled=False)
    page.get_by_role("link", name="Create backup").click()
    page.get_by_label("What").select_option("database")
    page.get_by_role("button", name="Create backup").click()
    again = page.get_by_role("link", name="Look again how far it is")
    while again.is_visible():
        again.click()
    page.get_by_role("link", name="The backup").click()
    (made,) = records(shop) - before
    page.get_by_role("link", name="Delete").click()
    page.get_by_label("to confirm").fill("wrong")
    page.get_by_role("button", name="Delete backup").click()
    expect(page.get_by_role("alert")).to_contain_text("was not confirmed")
    page.get_by_label("to confirm").fill(made[-6:])
    page.get_by_role("button", name="Delete backup").click()
    expect(page.get_by_role("alert")).to_contain_text("the last valid backup")
    page.get_by_label("Delete it all the same").check()
    page.get_by_label("to confirm").fill(made[-6:])
    page.get_by_role("button", name="Delete backup").click()
    expect(page.locator(".flash")).to_contain_text("was deleted")
    assert records(shop) == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody_and_fits_a_phone(
    desk: Desk, machine: Machine, shop: Path, scheme: str
) -> None:
    machine.run("run", "shop")
    shown = machine.json("list", "shop")[-1]["id"]
    pages = ["/", "/backups", "/backups?app=shop", "/backups?q=nosuch", "/backups?since=x", "/backups/new"]
    pages += [f"/backups/{shown}", f"/backups/{shown}/delete", f"/backups/{shown}/restore"]
    pages += [f"/backups/{shown}/restore?where=in-place", "/docs", "/access", "/nosuch"]
    pages += ["/destinations", "/destinations/add?kind=b2", "/apps", "/apps/shop", "/schedules"]
    page = desk.sit("/", color_scheme=scheme)
    for path in pages:
        page.set_viewport_size(PHONE)
        page.goto(path)
        assert overflow(page) <= 0, f"{path} is wider than a phone"
        if path == pages[6]:
            expect(page.get_by_role("link", name="its steps and log")).to_be_visible()
        assert violations(page) == []


def test_what_names_messages_and_logs_say_is_shown_and_never_run(desk: Desk) -> None:
    pages = ["/", "/backups", "/backups/new", f"/backups/{ID}", f"/backups/{ID}/delete", f"/backups/{ID}/restore"]
    pages += [f"/backups/{ID}/restore?where=in-place&source={quote(TEXT)}", f"/runs/{RUN}", f"/{quote(TEXT)}"]
    with console(desk.machine, "tests.console.hostile:create_hostile") as url:
        page = desk.sit(base_url=url)
        for path in pages:
            page.goto(f"/backups?q={quote(TEXT)}" if path == "/backups" else path)
            assert page.evaluate("window.harmed") is None, path
            assert page.locator("script:not([src]), img, [onerror]").count() == 0, path
            if path != pages[-1]:
                assert TEXT in page.locator("main").text_content(), path
            assert violations(page) == []
        page.goto("/backups")
        page.get_by_role("link", name="Delete").first.click()
        expect(page.get_by_role("dialog").locator("dd").nth(1)).to_contain_text(TEXT)
        assert page.evaluate("window.harmed") is None


def test_who_guesses_has_to_wait_and_who_has_an_account_gets_to_where_he_wanted(
    desk: Desk, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("correct horse battery")
    machine.run("console", "user", "add", "anna", "--scope", "read", "--password-file", f"{tmp_path}/password")
    try:
        page = desk.sit("/backups")
        while "/login" not in page.url:  # the console looks for accounts again within two seconds
            page.goto("/backups")
        assert violations(page) == []
        for _ in range(6):
            page.get_by_label("Name").fill("ben")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("alert")).to_contain_text("too many tries")
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill("correct horse battery")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="Backups")).to_be_visible()
        expect(page.get_by_role("link", name="Create backup")).to_have_count(0)
        page.goto("/backups/new")
        expect(page.get_by_role("heading", name="Forbidden")).to_be_visible()
        page.get_by_role("button", name="Log out").click()
        page.goto("/")
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    finally:
        machine.run("console", "user", "remove", "anna")


def test_a_page_of_another_site_cannot_change_anything_though_no_login_is_asked_for(
    desk: Desk, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>another site</title>")
    serve = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server, desk.browser.new_context() as context:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        body = json.dumps({"name": "stolen", "kind": "local", "fields": {"root": str(tmp_path / "stolen")}})
        for kind, mode in product(("application/json", "text/plain"), ("cors", "no-cors")):
            for script in ({}, {"X-Requested-With": "curl"}):
                options = {"method": "POST", "mode": mode, "body": body, "headers": {"Content-Type": kind, **script}}
                page.evaluate(
                    "([url, options]) => fetch(url, options).catch(() => 'stopped by the browser').then(() => null)",
                    [f"{desk.url}/api/backup-destinations", options],
                )
        page.evaluate(
            "([url, body]) => navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}))",
            [f"{desk.url}/api/backup-destinations", body],
        )
        server.shutdown()
    assert "stolen" not in machine.run("destination", "list").stdout
    assert not (tmp_path / "stolen").exists()
