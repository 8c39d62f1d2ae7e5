"""The real ``backups`` command, in a child process with a home of its own.

Where that makes no difference, it is forked from a process that has imported Prefect already (``tests.peers.warm``).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers import warm

TIMEOUT = 600
"""Seconds in which whatever a test waits for has come, also on a machine that is ten times as busy as it should be."""
_QUICK = ("PREFECT_API_SSL_CERT_FILE", "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED")  # see tests/conftest.py


@dataclass
class Machine:
    """A home directory, a Prefect API and a work directory: what a run of the command sees of the world."""

    home: Path
    api_url: str | None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The work directory of its runs."""
        return self.home / "work"

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of ours but PATH."""
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PREFECT_HOME": str(self.home / "prefect"),
            "BACKUPS_WORK_DIR": str(self.work),
            "BACKUPS_RETRY_DELAY": "0.1",
            "DO_NOT_TRACK": "1",
            **{name: os.environ[name] for name in _QUICK if name in os.environ},
        }
        if self.api_url:
            own["PREFECT_API_URL"] = self.api_url
        return {**own, **self.extra, **more}

    def run(self, *arguments: str, ok: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end; with *ok* it has to succeed."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = self._start(arguments, self.environment(**more), out.fileno(), err.fileno())
            try:
                code = process.wait(timeout=TIMEOUT)
            except BaseException:
                process.kill()
                process.wait()
                raise
            out.seek(0)
            err.seek(0)
            done = subprocess.CompletedProcess(arguments, code, out.read(), err.read())
        assert not ok or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, **more: str) -> Any:
        """Run the command with ``--json`` and read what it prints."""
        return json.loads(self.run(*arguments, "--json", **more).stdout)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the command as people do; its output goes to ``output`` in its home."""
        with (self.home / "output").open("ab") as output:
            return started(arguments, self.environment(**more), output.fileno(), output.fileno())

    def stop_at(self, milestone: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run the command until it stops itself (SIGSTOP) at *milestone*."""
        with (self.home / "output").open("ab") as output:
            environment = self.environment(BACKUPS_STOP_AT=milestone)
            process = self._start(arguments, environment, output.fileno(), output.fileno())
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        said = (self.home / "output").read_text(errors="replace")
        assert os.WIFSTOPPED(status), f"it ended before {milestone}: {said[-3000:]}"
        return process

    def kill_at(self, milestone: str, *arguments: str, signal_number: int = signal.SIGKILL) -> int:
        """Run the command until *milestone*, and kill it exactly there. Returns its process id."""
        process = self.stop_at(milestone, *arguments)
        process.send_signal(signal_number)
        process.send_signal(signal.SIGCONT)
        process.wait(timeout=TIMEOUT)
        return process.pid

    def _start(
        self, arguments: tuple[str, ...], environment: dict[str, str], out: int, err: int
    ) -> subprocess.Popen[bytes]:
        start = warm.start if warm.fits(environment) else started
        return start(arguments, environment, out, err)


def started(arguments: tuple[str, ...], environment: dict[str, str], out: int, err: int) -> subprocess.Popen[bytes]:
    """The command, as people start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
