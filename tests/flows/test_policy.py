"""How steps are given what they work with."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from prefect import flow, task, task_engine
from prefect.utilities import collections, engine

from blocks.destinations.local_upload import LocalUpload
from flows.backup import backup
from flows.prune import prune
from tasks.policy import ONCE, as_it_is
from tasks.prune import Pruning
from tasks.run import Run, Transfer
from tests.flows.conftest import Sample
from tests.flows.test_hooks import hook
from vault.errors import NoSpace


class Changing(set[int]):
    """A set that another thread changes whenever it is looked through."""

    def __iter__(self) -> Iterator[int]:
        raise RuntimeError("Set changed size during iteration")


@dataclass(eq=False)
class Shared:
    numbers: set[int] = field(default_factory=Changing)


def test_what_other_threads_change_reaches_a_task_as_it_is(prefect_api: object) -> None:
    shared = Shared()
    step = task(lambda given: given is shared, name="step", **ONCE)

    @flow
    def run() -> bool:
        return step.submit(as_it_is(shared)).result()

    assert run()


@pytest.fixture
def shared_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Prefect fail as soon as it walks through what several threads change, not only when one of them does."""
    walk = collections.visit_collection
    nested = threading.local()

    def fields(value: object) -> object:
        if isinstance(value, Run | Transfer | Pruning) and nested.deep:
            raise RuntimeError(f"{type(value).__name__} changed size during iteration")
        return dataclasses.fields(value)  # type: ignore[arg-type]

    def visit(*args: object, **kwargs: object) -> object:
        nested.deep = kwargs.get("max_depth") != 1  # of what a step returns, Prefect looks at the outside
        return walk(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(collections, "fields", fields)
    monkeypatch.setattr(task_engine, "visit_collection", visit)
    monkeypatch.setattr(engine, "visit_collection", visit)


def test_no_step_of_a_backup_or_of_a_pruning_is_given_what_is_shared_to_be_walked_through(
    sample: Sample, shared_is_not_walked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(sample, "before", "true")
    hook(sample, "after", "true")
    assert backup(app=sample.name, keep={"keep_last": 1}).warnings == ()
    prune(app=sample.name, keep={"keep_last": 1})

    def full(self: LocalUpload, segment: object) -> None:
        raise NoSpace("the disk is full")

    monkeypatch.setattr(LocalUpload, "append", full)
    with pytest.raises(NoSpace):  # and so "cleanup" is run
        backup(app=sample.name)
