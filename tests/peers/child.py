"""Work in a forked child: for what a process can do to itself only once, such as losing rights or dying."""

from __future__ import annotations

import os
from collections.abc import Callable

NOBODY = 65534


def in_child(work: Callable[[], object]) -> tuple[str, int]:
    """What *work* returned or raised, as text, and the exit code of the child that did it; negative for a signal."""
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(work())
        except BaseException as error:  # noqa: BLE001  (told to the parent)
            text = f"{type(error).__name__}: {error}"
        os.write(send, text.encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as file:
        text = file.read().decode()
    return text, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def as_nobody(work: Callable[[], object]) -> str:
    """What *work* returned or raised without root's rights."""

    def unprivileged() -> object:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        return work()

    return in_child(unprivileged)[0]
