"""docs/features.md says where each line of the feature is: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from console.api import create

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/features.md").read_text()
NAMED = sorted(set(re.findall(r"`([^` ]+)`", TEXT)))


def test_each_test_that_is_named_is_there() -> None:
    there = {
        name for path in (ROOT / "tests").rglob("*.py") for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    named = {name for name in NAMED if re.fullmatch(r"test_\w+", name)}
    assert len(named) > 30
    assert named <= there


@pytest.mark.parametrize("path", [name for name in NAMED if re.fullmatch(r"[\w-]+(/[\w-]+)+(\.\w+|/)", name)])
def test_each_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_each_template_and_picture_that_is_named_is_there() -> None:
    templates = {name for name in NAMED if re.fullmatch(r"\w+\.html", name)}
    assert templates
    assert {name for name in templates if not (ROOT / "console/templates" / name).exists()} == set()
    pictures = re.findall(r"\]\(([\w/.-]+)\)", TEXT)
    assert {name for name in pictures if not (ROOT / "docs" / name).exists()} == set()


def test_each_endpoint_that_was_asked_for_is_there() -> None:
    asked = re.findall(r"^\| `(GET|POST|PUT|DELETE) (/api/\S+)` \|", TEXT, re.MULTILINE)
    assert len(asked) == 14
    paths = {re.sub(r"\{\w+\}", "{id}", path): methods for path, methods in create().openapi()["paths"].items()}
    assert [(method, path) for method, path in asked if method.lower() not in paths.get(path, {})] == []
