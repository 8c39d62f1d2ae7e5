"""A pytest plugin: which cases of docs/faults.md, and which laws, have a passing test that names them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

CATALOGUE = Path(__file__).parents[1] / "docs" / "faults.md"
LAWS = frozenset(range(1, 13))


def cases(text: str) -> tuple[str, ...]:
    """The ids of all cases in the tables of the catalogue, in its order."""
    return tuple(re.findall(r"^\| ([A-Z]\d\d) \|", text, re.MULTILINE))


def scope(text: str) -> frozenset[str]:
    """The ids that this version must survive: the line ``**In scope:** S01 to S21, D01, …``."""
    line = re.search(r"^\*\*In scope:\*\* (.+?)\.$", text, re.MULTILINE)
    if line is None:
        raise pytest.UsageError(f"{CATALOGUE} has no line '**In scope:** …'")
    found: set[str] = set()
    for part in line[1].split(", "):
        first, _, last = part.partition(" to ")
        ends = int(first[1:]), int((last or first)[1:])
        found.update(f"{first[0]}{number:02}" for number in range(ends[0], ends[1] + 1))
    return frozenset(found)


class Coverage:
    """Collects what the tests claim, and which of them passed."""

    def __init__(self, strict: bool) -> None:
        text = CATALOGUE.read_text()
        self.cases = cases(text)
        self.in_scope = scope(text)
        self.strict = strict
        self.faults: set[str] = set()
        self.laws: set[int] = set()

    @property
    def missing(self) -> list[str]:
        """The cases in scope that no test covers."""
        return [case for case in self.cases if case in self.in_scope - self.faults]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            faults = frozenset(case for mark in item.iter_markers("fault") for case in mark.args)
            laws = frozenset(number for mark in item.iter_markers("law") for number in mark.args)
            if unknown := sorted(map(str, (faults - set(self.cases)) | (laws - LAWS))):
                raise pytest.UsageError(f"{item.nodeid} names {', '.join(unknown)}: not in the catalogue")
            item.user_properties += [("fault", case) for case in faults] + [("law", law) for law in laws]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            # with the report they come from the process that ran the test to the one that counts
            self.faults |= {str(value) for name, value in report.user_properties if name == "fault"}
            self.laws |= {int(str(value)) for name, value in report.user_properties if name == "law"}

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.strict and self.missing and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if not (self.strict or is_whole(config)):
            return
        done = self.in_scope & self.faults
        later = [case for case in self.cases if case not in self.in_scope | self.faults]
        write = terminalreporter.write_line
        terminalreporter.section("faults and laws")
        write(f"fault cases covered: {len(self.faults)} of {len(self.cases)}")
        write(f"  in scope: {len(done)} of {len(self.in_scope)}; no test for: {listing(self.missing)}")
        write(f"  out of scope as yet, no test for: {listing(later)}")
        write(f"laws covered: {len(self.laws)} of {len(LAWS)}; no test for: {listing(sorted(LAWS - self.laws))}")


def is_whole(config: pytest.Config) -> bool:
    """Whether everything was asked for: only then does an absent case mean something."""
    chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False)
    return not chosen and config.args_source is pytest.Config.ArgsSource.TESTPATHS


def listing(ids: Iterable[object]) -> str:
    """For a line of the report."""
    return " ".join(map(str, ids)) or "none"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-strict", action="store_true", help="fail where a fault case in scope has no test")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Coverage(config.getoption("--faults-strict")), "fault-coverage")
