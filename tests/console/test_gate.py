"""Who gets through the gate, and what of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.testclient import TestClient

from blocks import console_accounts as kept
from blocks.loading import missing
from console.api import create
from console.exchange import LARGEST_BODY
from console.gate import CSRF_HEADER, SCRIPT_HEADER
from console.sessions import IDLE, LONGEST
from console.throttle import Throttle
from tests.console.conftest import ADDRESS

PASSWORD = "correct horse battery"
HTML = {"Accept": "text/html"}


@dataclass
class Door:
    """A console with accounts, the clock of its sessions, and its tokens by scope."""

    client: TestClient
    tokens: dict[str, str]
    late: float = 0.0
    held: list[TestClient] = field(default_factory=list)

    def bearer(self, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[scope]}"}

    def csrf(self, path: str) -> str:
        """What the forms on that page send along."""
        found = re.search(r'name="csrf" value="([0-9a-f]+)"', self.client.get(path, headers=HTML).text)
        assert found is not None
        return found[1]

    def log_in(self, name: str = "ops", password: str = PASSWORD, **more: str) -> httpx.Response:
        data = {"csrf": self.csrf("/login"), "name": name, "password": password, **more}
        return self.client.post("/login", data=data, headers=HTML, follow_redirects=False)


@pytest.fixture(scope="module")
def accounts(prefect_api: object) -> Iterator[dict[str, str]]:
    """The account ops, and a token of each scope."""
    kept.add_account("ops", PASSWORD, "admin")
    yield {scope: kept.add_token(f"t-{scope}", scope, None) for scope in kept.SCOPES}
    kept.ConsoleAccounts.delete(kept.DOCUMENT)


@pytest.fixture
def without_accounts(prefect_api: object) -> Iterator[None]:
    """Those of other tests of this module are not there meanwhile, in whichever order they run."""
    there = not missing(f"{kept.ACCOUNTS_SLUG}/{kept.DOCUMENT}")
    before = kept.ConsoleAccounts.load(kept.DOCUMENT) if there else None
    if before is not None:
        kept.ConsoleAccounts.delete(kept.DOCUMENT)
    yield
    if before is not None:
        before.save(kept.DOCUMENT)


@pytest.fixture
def door(accounts: dict[str, str]) -> Iterator[Door]:
    app = create()
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        made = Door(client, accounts)
        clock = app.state.keeper.clock
        app.state.keeper.clock = lambda: clock() + made.late
        app.state.keeper._by_account = Throttle(5, lambda: made.late)
        yield made


def test_without_an_account_everything_is_open_to_this_machine_and_says_so(
    without_accounts: None, client: TestClient
) -> None:
    answer = client.get("/api/apps")
    assert (answer.status_code, answer.headers["x-backups-warning"][:12]) == (200, "Login is off")
    assert client.get("/api/session").json()["via"] == "nobody"
    for host in ("evil.example:4280", "127.0.0.1.evil.example", "[bad", "a/static/x?"):
        assert client.get("/api/apps", headers={"Host": host}).status_code == 421, "a name that was bound to us"
    assert client.get("/api/apps", headers={"Host": "localhost:4280"}).status_code == 200
    assert client.get("/api/apps", headers={"X-Forwarded-For": "10.0.0.1"}).status_code == 401, "somebody is between"
    assert client.get("/api/apps", headers={"Authorization": "Bearer backups_wrong"}).status_code == 401


def test_a_script_on_this_machine_needs_no_token_and_a_page_of_another_site_cannot_pass_for_one(
    prefect_api: object,
) -> None:
    change = {"json": {"name": "x", "kind": "nosuch", "fields": {}}}  # let through, it is no kind of destination
    script = {SCRIPT_HEADER: "curl"}
    with TestClient(create(), base_url=ADDRESS, raise_server_exceptions=False) as client:
        assert client.post("/api/backup-destinations", **change, headers=script).status_code == 422
        refused = client.post("/api/backup-destinations", **change)
        assert refused.status_code == 403
        assert SCRIPT_HEADER in refused.json()["remedy"]
        for odd in (
            {"Origin": "https://evil.example"},
            {"Origin": "http://127.0.0.1:8000"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {SCRIPT_HEADER: ""},
        ):
            assert client.post("/api/backup-destinations", **change, headers={**script, **odd}).status_code == 403, odd
        bound = {**script, "Host": "evil.example:4280", "Origin": "http://evil.example:4280"}
        assert client.post("/api/backup-destinations", **change, headers=bound).status_code == 421
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": SCRIPT_HEADER.lower()}
        before = client.options("/api/backup-destinations", headers={"Origin": "https://evil.example", **asks})
        assert not [name for name in before.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "10.1.2.3", "backups.example.org", ""])  # noqa: S104
def test_beyond_loopback_nothing_is_open_without_an_account(prefect_api: object, bind: str) -> None:
    for app, elsewhere in ((create(bind), True), (create(closed=True), False)):
        with TestClient(app, base_url=ADDRESS) as client:
            assert client.get("/api/apps").status_code == 401
            shown = client.get("/login", headers=HTML)
            assert "backups console user add" in shown.text
            assert ("plain HTTP" in shown.text, "Secure" in shown.headers["set-cookie"]) == (elsewhere, elsewhere)


def test_nobody_gets_in_without_a_token_or_a_login(door: Door) -> None:
    answer = door.client.get("/api/apps")
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    sent_on = door.client.get("/backups/x y", headers=HTML, follow_redirects=False)
    assert (sent_on.status_code, sent_on.headers["location"]) == (303, "/login?next=/backups/x%20y")
    for odd in ("a/static/x?", "a/login?", "a/api/health#"):
        assert door.client.get("/api/apps", headers={"Host": odd}).status_code == 401, (
            "the path is not what a Host says"
        )
    for header in (
        "Bearer",
        "Bearer x",
        "Basic YTpi",
        f"Bearer {door.tokens['read']}x",
        f"Token {door.tokens['read']}",
    ):
        assert door.client.get("/api/apps", headers={"Authorization": header}).status_code == 401
    assert door.client.get("/static/console.css").status_code == 200
    assert door.client.get("/static/..%2f..%2fapi.py").status_code == 404
    assert door.client.get("/static/../api/apps").status_code in (401, 404)


def test_where_there_are_accounts_a_script_needs_a_token_and_a_session_the_token_of_its_page(door: Door) -> None:
    script = {SCRIPT_HEADER: "curl"}
    assert door.client.post("/api/destination-tests", json={}, headers=script).status_code == 401
    door.log_in()
    assert door.client.post("/api/destination-tests", json={}, headers=script).status_code == 403


def test_a_token_has_its_scope_until_it_expires_or_is_revoked(door: Door) -> None:
    assert door.client.get("/api/session", headers=door.bearer("read")).json()["scope"] == "read"
    refused = door.client.get("/api/accounts", headers=door.bearer("operate"))
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "this takes the scope admin, and t-operate has operate",
    )
    short = kept.add_token("t-short", "read", datetime.now(UTC) + timedelta(hours=1))
    door.client.app.state.keeper.forget()  # type: ignore[attr-defined]
    asked = {"Authorization": f"Bearer {short}"}
    assert door.client.get("/api/session", headers=asked).status_code == 200
    door.late = 3601
    assert door.client.get("/api/session", headers=asked).status_code == 401
    door.late = 0
    gone = door.client.delete("/api/tokens/t-short?confirm=t-short", headers=door.bearer("admin"))
    assert gone.status_code == 200
    assert door.client.get("/api/session", headers=asked).status_code == 401
    assert door.client.delete("/api/tokens/t-short", headers=door.bearer("admin")).status_code == 404


def test_a_login_makes_a_session_with_a_cookie_that_only_we_are_sent(door: Door) -> None:
    done = door.log_in(next="/account")
    assert (done.status_code, done.headers["location"]) == (303, "/account")
    (cookie,) = [line for line in done.headers.get_list("set-cookie") if line.startswith("backups-session=")]
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= set(cookie.split("; "))
    assert door.client.get("/api/session").json() == {
        "name": "ops",
        "scope": "admin",
        "via": "session",
        "csrf_token": door.csrf("/account"),
    }
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "javascript:x"):
        assert door.log_in(next=elsewhere).headers["location"] == "/"


def test_over_https_the_cookie_is_never_sent_in_clear(accounts: dict[str, str]) -> None:
    with TestClient(create(), base_url="https://backups.example.org") as client:
        assert "plain HTTP" not in client.get("/login").text
        done = Door(client, accounts).log_in()
        (cookie,) = [line for line in done.headers.get_list("set-cookie") if "session=" in line]
        assert cookie.startswith("__Host-backups-session=")
        assert "Secure" in cookie.split("; ")
        assert "max-age=" in done.headers["strict-transport-security"]
        assert client.get("/api/session").status_code == 200
        form = {"csrf": client.get("/api/session").json()["csrf_token"]}
        told = client.post("/backups/nosuch/pin", data=form, headers=HTML, follow_redirects=False)
        flashes = [line for line in told.headers.get_list("set-cookie") if line.startswith("backups-flash=")]
        assert [line.lower().split("; ").count("secure") for line in flashes] == [1], told.headers


def test_a_session_ends_when_it_is_not_used_and_after_half_a_day_and_a_used_one_goes_on(door: Door) -> None:
    door.log_in()
    for late in range(IDLE - 60, LONGEST, IDLE - 60):
        door.late = late
        assert door.client.get("/api/session").status_code == 200
    door.late = LONGEST
    assert door.client.get("/api/session").status_code == 401
    door.late = 0
    door.client.cookies.clear()
    door.log_in()
    door.late = IDLE
    assert door.client.get("/api/session").status_code == 401


def test_a_logout_ends_the_session_also_for_whoever_has_copied_its_cookie(door: Door) -> None:
    door.log_in()
    copied = door.client.cookies["backups-session"]
    door.client.post("/logout", data={"csrf": door.csrf("/account")}, headers=HTML)
    assert "backups-session" not in door.client.cookies
    assert door.client.get("/api/session", headers={"Cookie": f"backups-session={copied}"}).status_code == 401
    door.client.app.state.keeper.forget()  # type: ignore[attr-defined]
    assert door.client.get("/api/session", headers={"Cookie": f"backups-session={copied}"}).status_code == 401


def test_a_login_gives_a_session_that_nobody_knew_before(door: Door) -> None:
    door.log_in()
    before = door.client.cookies["backups-session"]
    door.client.cookies.delete("backups-session")
    door.client.cookies.set("backups-session", "fixed", domain="127.0.0.1", path="/")
    assert door.log_in().status_code == 303
    assert door.client.cookies["backups-session"] not in (before, "fixed")
    for forged in (before[:-2], before + "A", "W10.x", "", "x" * 4000):
        door.client.cookies.clear()
        assert door.client.get("/api/session", headers={"Cookie": f"backups-session={forged}"}).status_code == 401


def test_another_password_and_a_removed_account_end_the_sessions(door: Door) -> None:
    kept.add_account("guest", PASSWORD, "read")
    door.client.app.state.keeper.forget()  # type: ignore[attr-defined]
    door.log_in("guest")
    first = door.client.cookies["backups-session"]
    new = "another horse battery"
    form = {"csrf": door.csrf("/account"), "current": PASSWORD, "new": new, "again": new}
    assert door.client.post("/account/password", data={**form, "again": "x"}, headers=HTML).status_code == 422
    assert door.client.post("/account/password", data={**form, "current": "x"}, headers=HTML).status_code == 422
    assert "another one now" in door.client.post("/account/password", data=form, headers=HTML).text
    assert door.client.get("/api/session").json()["name"] == "guest", "he who changed it is still logged in"
    assert door.client.get("/api/accounts").status_code == 403
    stale = {"Cookie": f"backups-session={first}"}
    door.client.cookies.clear()
    assert door.client.get("/api/session", headers=stale).status_code == 401
    door.log_in("guest", new)
    removed = door.client.delete(
        "/api/accounts/guest?confirm=guest", headers={**door.bearer("admin"), "Cookie": "none=1"}
    )
    assert removed.status_code == 200
    assert door.client.get("/api/session").status_code == 401
    only = door.client.delete("/api/accounts/ops?confirm=ops", headers=door.bearer("admin"))
    assert (only.status_code, only.json()["detail"]) == (409, "ops is the only account of scope admin")


def test_who_guesses_is_locked_out_whether_or_not_the_account_exists(door: Door) -> None:
    for name in ("ops", "nosuch"):
        tries = [door.log_in(name, "wrong wrong wrong") for _ in range(6)]
        assert [one.status_code for one in tries] == [401] * 5 + [429]
        assert int(tries[-1].headers["retry-after"]) >= 1
        assert door.log_in(name).status_code == 429, "nor with the right one"
    shown = [door.log_in(name, "wrong").text.replace(name, "NAME") for name in ("ops", "nosuch")]
    assert re.sub("[0-9a-f]{64}", "", shown[0]) == re.sub("[0-9a-f]{64}", "", shown[1])
    door.late = 2
    assert door.log_in().status_code == 303


def test_what_another_sites_page_has_a_browser_send_is_refused(door: Door) -> None:
    door.log_in()
    token = door.client.get("/api/session").json()["csrf_token"]
    body = {"name": "made", "scope": "read", "days": 1}

    def sent(**headers: str) -> int:
        return door.client.post("/api/tokens", json=body, headers=headers).status_code

    assert sent() == 403
    assert sent(**{CSRF_HEADER: token[::-1]}) == 403
    good = {CSRF_HEADER: token}
    assert sent(**good, Origin="https://evil.example") == 403
    assert sent(**good, Origin="null") == 403
    assert sent(**good, **{"Sec-Fetch-Site": "cross-site"}) == 403
    assert sent(**good, **{"Sec-Fetch-Site": "same-site"}) == 403
    assert sent(**good, Origin=ADDRESS, **{"Sec-Fetch-Site": "same-origin"}) == 201
    assert sent(**door.bearer("admin")) == 409, "a token needs none: no browser sends it by itself"
    assert door.client.post("/logout", headers=HTML).status_code == 403
    visitor = {"csrf": door.csrf("/account"), "name": "ops", "password": PASSWORD}
    door.client.cookies.clear()
    assert door.client.post("/login", data=visitor, headers=HTML).status_code == 403, "not what the login page gave"
    door.client.delete("/api/tokens/made?confirm=made", headers=door.bearer("admin"))


def test_every_answer_tells_the_browser_to_load_nothing_from_elsewhere(door: Door) -> None:
    def shown(path: str, **headers: str) -> httpx.Headers:
        return door.client.get(path, headers=headers).headers

    answers = [
        shown("/login", **HTML),
        shown("/nosuch"),
        shown("/static/console.css"),
        shown("/api/apps"),
        shown("/a%0d%0aX: y"),
    ]
    for found in answers:
        assert found["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in found["content-security-policy"]
        assert (found["x-content-type-options"], found["referrer-policy"]) == ("nosniff", "same-origin")
        assert (found["x-frame-options"], found.get("x")) == ("DENY", None)
    assert [found["cache-control"] for found in answers] == ["no-store", "no-store", "no-cache", "no-store", "no-store"]
    assert shown("/static/console.css?v=1")["cache-control"] == "public, max-age=31536000, immutable"
    assert shown("/static/nosuch?v=1")["cache-control"] == "no-store"


def test_what_is_too_large_is_refused(door: Door) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(2 * LARGEST_BODY // 65536):
            yield bytes(65536)

    for content in (bytes(LARGEST_BODY + 1), parts()):
        assert door.client.post("/api/tokens", content=content, headers=door.bearer("admin")).status_code == 413


def test_a_request_that_is_sent_again_is_answered_again_and_not_done_again(door: Door) -> None:
    body = {"name": "once", "scope": "read", "days": 1}

    def sent(key: str, scope: str = "admin", **changed: object) -> httpx.Response:
        headers = {**door.bearer(scope), "Idempotency-Key": key}
        return door.client.post("/api/tokens", json={**body, **changed}, headers=headers)

    first, second = sent("k1"), sent("k1")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert second.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert sent("k1", name="other").status_code == 422
    assert sent("k1", "read").status_code == 403, "another's key is not mine"
    assert [sent("k2").status_code, sent("k2").status_code] == [409, 409], "what failed is tried again"
    assert sent("x" * 201).status_code == 422
    door.client.delete("/api/tokens/once?confirm=once", headers=door.bearer("admin"))
