"""The real ``backups`` command, in a child process with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMEOUT = 120


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
        }
        if self.api_url:
            own["PREFECT_API_URL"] = self.api_url
        return {**own, **self.extra, **more}

    def run(self, *arguments: str, ok: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end; with *ok* it has to succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *arguments],
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )
        assert not ok or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, **more: str) -> Any:
        """Run the command with ``--json`` and read what it prints."""
        return json.loads(self.run(*arguments, "--json", **more).stdout)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        """Start the command; its output goes to ``output`` in its home."""
        with (self.home / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "cli", *arguments],
                env=self.environment(**more),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop_at(self, milestone: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run the command until it stops itself (SIGSTOP) at *milestone*."""
        process = self.start(*arguments, BACKUPS_STOP_AT=milestone)
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
