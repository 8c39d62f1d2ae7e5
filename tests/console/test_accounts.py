"""Accounts and tokens: what is kept of them, and that nobody who changes them loses what another has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from prefect.settings import PREFECT_API_URL

from blocks import console_accounts as accounts
from blocks.passwords import TOKEN_PREFIX, digest, fits, hashed
from vault.errors import ConfigError

PASSWORD = "correct horse battery"
_ADD = "import sys; from blocks.console_accounts import add_token; [add_token(n, 'read', None) for n in sys.argv[1:]]"


@pytest.fixture
def nobody(prefect_api: object) -> Iterator[None]:
    """No account, before and after."""
    yield
    accounts.ConsoleAccounts.delete(accounts.DOCUMENT)


def test_a_password_is_kept_as_a_hash_of_its_own() -> None:
    kept = hashed(PASSWORD)
    assert fits(PASSWORD, kept)
    assert not fits(PASSWORD + "x", kept)
    assert not fits(PASSWORD, None)
    assert not fits("", None)
    assert kept != hashed(PASSWORD), "each has its salt"
    for bad in ("short", "x" * 1025):
        with pytest.raises(ConfigError, match="12 to 1024"):
            hashed(bad)


def test_accounts_and_tokens_are_added_changed_and_removed(nobody: None) -> None:
    assert accounts.read() == ("", accounts.Held())
    first = accounts.add_account("ops", PASSWORD, "admin")
    token = accounts.add_token("cron", "read", datetime.now(UTC) + timedelta(days=1))
    key, held = accounts.read()
    assert len(key) >= 32
    assert held.accounts == {"ops": first}
    assert (token.startswith(TOKEN_PREFIX), held.tokens["cron"].sha256) == (True, digest(token))
    assert held.tokens["cron"].valid(datetime.now(UTC))
    assert not held.tokens["cron"].valid(datetime.now(UTC) + timedelta(days=2))
    changed = accounts.change_password("ops", "another-long-one")
    assert changed.generation != first.generation, "his sessions end"
    for taken in (
        lambda: accounts.add_account("ops", PASSWORD, "read"),
        lambda: accounts.add_token("cron", "read", None),
    ):
        with pytest.raises(ConfigError, match="already"):
            taken()
    accounts.end_session("gone", datetime.now(UTC) - timedelta(seconds=1))
    accounts.end_session("ended", datetime.now(UTC) + timedelta(hours=1))
    assert set(accounts.read()[1].ended) == {"ended"}, "what is over by itself is forgotten"
    assert accounts.revoke_token("cron").name == "cron"
    assert accounts.remove_account("ops").scope == "admin"
    assert accounts.read()[0] == key
    with pytest.raises(ConfigError, match="there is no account"):
        accounts.remove_account("ops")
    with pytest.raises(ConfigError, match="there is no token"):
        accounts.revoke_token("cron")
    with pytest.raises(ConfigError, match="in the future"):
        accounts.add_token("old", "read", datetime.now(UTC))


def test_of_changes_at_the_same_time_in_several_processes_none_is_lost(nobody: None) -> None:
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    names = [[f"t{child}-{number}" for number in range(4)] for child in range(3)]
    children = [subprocess.Popen([sys.executable, "-c", _ADD, *each], env=environment) for each in names]
    assert [child.wait(timeout=300) for child in children] == [0, 0, 0]
    assert set(accounts.read()[1].tokens) == {name for each in names for name in each}
