"""The time in which an app is read: what has to be done before it, and what is undone after it, whatever happened."""

from __future__ import annotations

from contextlib import ExitStack

from blocks.docker.guard import Guard
from tasks.hook import hook, note_begun, note_ended
from tasks.log import run_log
from tasks.policy import as_it_is
from tasks.run import Run
from vault.errors import BackupError, HookFailed, SourceError
from vault.milestone import milestone


class Window:
    """Before hook, containers held still, reading, containers back, after hook: before what was read is sent.

    Whoever opens it closes it, also where opening or reading failed: only a run that is killed leaves it open. Its
    containers come back all the same, for their server sees to that; its after hook is told of by the next run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._is_open = False
        self._held = ExitStack()
        self._guards: list[Guard] = []

    def open(self) -> None:
        """Before the first source is read. ``HookFailed``, ``SourceError``."""
        run = self._run
        note_begun(run)
        self._is_open = True
        if "before" in run.hooks:
            run.progress.stage("before hook")
            hook(as_it_is(run), "before")
        for still in run.still:
            run.progress.stage(f"{still.how} {', '.join(still.names)}")
            guard = self._held.enter_context(still.hold())
            self._guards.append(guard)
            run.held += guard.names
        if run.still:
            milestone("held")
            if not run.held:
                run.remarks.append("nothing was held still: none of the containers was running")

    def close(self, whole: bool = True) -> None:
        """After the last one; *whole*: all of them were read. ``SourceError`` where the containers were not down until
        now, or did not come back. An after hook that fails is kept for the end of the run, since what was read is good.
        Closing again does nothing."""
        if not self._is_open:
            return
        if self._run.hooks or self._run.still:
            self._run.closed.set()
        try:
            self._bring_back(whole)
        finally:
            self._after(whole)
            self._is_open = False
            note_ended(self._run)

    def _bring_back(self, whole: bool) -> None:
        held, self._held = self._held, ExitStack()
        if not self._run.still:
            return
        self._run.progress.stage("containers come back", "containers")
        try:
            if whole:
                held.close()
            else:  # when they came back does not matter, but that they did
                failed = SourceError("not all was read")
                held.__exit__(SourceError, failed, None)
        except BackupError as error:
            if whole:
                raise
            run_log().error("%s", error.message)
            self._run.remarks.append(error.message)
        finally:
            self._run.remarks += [warning for guard in self._guards for warning in guard.warnings]
            self._run.progress.stage("", "containers")

    def _after(self, whole: bool) -> None:
        if "after" not in self._run.hooks:
            return
        self._run.progress.stage("after hook", "after hook")
        try:
            hook(as_it_is(self._run), "after", whole)
        except HookFailed as error:
            self._run.after_error = error
        self._run.progress.stage("", "after hook")
