"""Each curl line of the documentation is really run, as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from blocks import App
from blocks import console_accounts as kept
from tests.console.test_runs import registered
from tests.console.test_serving import serving
from tests.flows.conftest import Sample, sample
from tests.peers.command import TIMEOUT
from tests.peers.units import ROOT

__all__ = ["registered", "sample"]
_SHOWN = [
    (path, re.sub(r"^    ", "", block, flags=re.MULTILINE))
    for path in sorted((ROOT / "docs").glob("*.md"))
    for block in re.findall(r"^    curl (?:.*\\\n)*.*", path.read_text(), re.MULTILINE)
]
STATUS = "status of the answer: "


@pytest.fixture
def token(sample: Sample) -> Iterator[str]:
    """A token of the scope admin, without any account; an app ``shop``."""
    App.load(sample.name).save("shop", overwrite=True)
    yield kept.add_token("script", "admin", None)
    kept.ConsoleAccounts.delete(kept.DOCUMENT)
    App.delete("shop")


def test_the_documentation_shows_how_to_ask_and_how_to_change_something() -> None:
    assert len(_SHOWN) >= 6
    assert {path.stem for path, _ in _SHOWN} == {"console", "destinations", "restore"}


@pytest.mark.docs
def test_each_curl_line_does_what_it_says(registered: None, token: str, tmp_path: Path) -> None:
    with serving(tmp_path) as (_, url, _):
        (tmp_path / ".curlrc").write_text(
            f'connect-to = "::{urlsplit(url).netloc}"\nwrite-out = "\\n{STATUS}%{{http_code}}"\n'
        )
        for path, text in _SHOWN:
            done = subprocess.run(
                ["bash", "-ec", text.replace("/mnt/", f"{tmp_path}/")],
                env={"PATH": os.environ["PATH"], "CURL_HOME": str(tmp_path), "TOKEN": token},
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
            )
            answer, _, status = done.stdout.rpartition(STATUS)
            assert status in ("200", "201", "202"), (path, text, done.stdout, done.stderr)
            json.loads(answer)
