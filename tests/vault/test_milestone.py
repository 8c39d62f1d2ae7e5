"""A test that kills a run at a milestone knows how far it came."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vault.milestone import ENVIRONMENT

_PAST_IT = """
import os, threading
from vault.milestone import milestone

ready = threading.Event()

def work():
    ready.wait()
    milestone("here")
    os.write(1, b"past it")

thread = threading.Thread(target=work)
thread.start()
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # of this thread: it runs when no other wants to
ready.set()
thread.join()
"""


@pytest.mark.parametrize("_", range(3))
def test_a_thread_that_stops_its_run_does_nothing_more_however_busy_the_machine(_: int) -> None:
    (core, *_rest) = os.sched_getaffinity(0)
    with subprocess.Popen(
        [sys.executable, "-c", _PAST_IT],
        env={"PYTHONPATH": os.getcwd(), ENVIRONMENT: "here"},
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # where only one thread can run, the others are late
    ) as process:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        process.kill()
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert os.WIFSTOPPED(status)


def test_a_run_that_is_to_stop_elsewhere_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PAST_IT],
        env={"PYTHONPATH": os.getcwd(), ENVIRONMENT: "elsewhere"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout == b"past it"
