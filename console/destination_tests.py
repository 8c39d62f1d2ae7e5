"""Tests of destinations: each step with its time, and the last one of each remembered where Prefect shows it too."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.filters import ArtifactCollectionFilter, ArtifactCollectionFilterKey
from pydantic import ValidationError

from blocks.destinations import Destination, SftpDestination
from blocks.destinations.probe import Step, failure, probe
from console.models.destinations import HostKeyShown, ProbeResult
from console.problems import Problem
from flows.test_destination import key_of, report
from vault.errors import BackupError
from vault.record import utc

_MOST = 200  # the server's own limit for one answer


def run(block: Destination, prepare: bool) -> tuple[Step, ...]:
    """Test *block*, after claiming its place where it is to be *prepare*d: the steps up to the one that failed."""
    if not prepare:
        return probe(block)
    began = time.monotonic()
    try:
        block.prepare()
    except BackupError as error:
        return (Step("prepare", time.monotonic() - began, error),)
    return (Step("prepare", time.monotonic() - began), *probe(block))


def passed(steps: tuple[Step, ...]) -> None:
    """``Problem`` 422 with the step that failed, its remedy, and all of them; nothing where none did."""
    error = failure(steps)
    if error is not None:
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the test failed at {steps[-1].name}, nothing was saved: {error.message}",
            error.remedy,
            step=steps[-1].name,
            steps=[step.as_row() for step in steps],
        )


def result(steps: tuple[Step, ...]) -> ProbeResult:
    """What a client is told, as of now."""
    rows: Any = [step.as_row() for step in steps]
    return ProbeResult(works=failure(steps) is None, at=utc(datetime.now(UTC)), steps=rows)


def remember(name: str, block: Destination, steps: tuple[Step, ...]) -> None:
    """Keep it as the flow ``test-destination`` does, so that Prefect's UI and the console show the same."""
    made = report(name, block.location, steps)
    with get_client(sync_client=True) as client:
        client.create_artifact(
            ArtifactCreate(type="table", key=made.key, description=made.description, data=json.dumps(made.table))
        )


def last_test(name: str, since: datetime | None) -> ProbeResult | None:
    """The last test of destination *name*; None where there was none since *since*, when it was saved first."""
    return last_tests({name: since}).get(name)


def last_tests(names: dict[str, datetime | None]) -> dict[str, ProbeResult]:
    """The last test of each of *names*, where there was one after the time it was saved first."""
    found: dict[str, ProbeResult] = {}
    wanted = {key_of(name): name for name in names}
    for key, at, data in _artifacts([*wanted]):
        name = wanted[key]
        since = names[name]
        kept = _read(at, data) if since is None or at >= since else None
        if kept is not None:
            found[name] = kept
    return found


def shown_host_key(block: SftpDestination) -> HostKeyShown:
    """The key that its server shows now; nobody logs in, and nothing but the handshake is said."""
    line, fingerprint = block.shown_host_key()
    return HostKeyShown(host_key=line, fingerprint=fingerprint)


def refuse_unpinned(block: Destination) -> None:
    """``Problem`` 422 with the key that the server shows, where none is pinned: a person has to compare it."""
    if isinstance(block, SftpDestination) and not block.host_key:
        shown = shown_host_key(block)
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the host key of {block.host} is not pinned: it is {shown.fingerprint}",
            "Compare it on the server: ssh-keygen -lf /etc/ssh/ssh_host_…_key.pub. If it is the same, send it.",
            host_key=shown.host_key,
            fingerprint=shown.fingerprint,
            errors=[{"field": "fields.host_key", "message": "is needed: compare the fingerprint, then confirm it"}],
        )


def _artifacts(keys: list[str]) -> list[tuple[str, datetime, Any]]:
    found = []
    with get_client(sync_client=True) as client:
        for start in range(0, len(keys), _MOST):
            part = ArtifactCollectionFilter(key=ArtifactCollectionFilterKey(any_=keys[start : start + _MOST]))
            for one in client.read_latest_artifacts(artifact_filter=part, limit=_MOST):
                if one.updated:
                    found.append((one.key, datetime.fromisoformat(one.updated.isoformat()), one.data))
    return found


def _read(at: datetime, data: Any) -> ProbeResult | None:
    """What an artifact says; None where it is not one of ours."""
    try:
        steps = json.loads(data) if isinstance(data, str) else data
        return ProbeResult(works=all(step["result"] == "ok" for step in steps), at=utc(at), steps=steps)
    except (ValueError, TypeError, KeyError, ValidationError):
        return None
