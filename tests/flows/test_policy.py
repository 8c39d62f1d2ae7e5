"""How steps are given what they work with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prefect import flow, task

from tasks.policy import ONCE, as_it_is


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
