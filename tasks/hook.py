"""Hooks: run the operator's own commands, and let the next run know of one that could not be run."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from prefect import task

from blocks.hook import Side
from tasks.log import logging_tools, run_log
from tasks.policy import ONCE
from tasks.run import Run
from vault.errors import HookFailed, SpoolError
from vault.milestone import milestone
from vault.orphans import is_alive, run_mark
from vault.record import BackupType
from vault.workspace import turns


def run_hook(run: Run, side: Side, whole: bool = True) -> None:
    """Run the hook of *side*, where the app has one; *whole*: all was read. What it says goes to the run's log, as it
    comes.

    ``HookFailed``; a remark in the record, where the app says that the backup goes on.
    """
    hook = run.hooks.get(side)
    if hook is None:
        return
    told = {
        "BACKUPS_APP": run.app,
        "BACKUPS_ID": str(run.id),
        "BACKUPS_TYPE": run.id.type,
        "BACKUPS_READ": "" if side == "before" else "whole" if whole else "failed",
    }
    milestone(f"hook:{side}")
    try:
        with logging_tools(f"{side} hook {hook.name}"):
            hook.run(run.workspace.path, told)
    except HookFailed as error:
        run_log().warning("%s", error.message)
        if hook.on_error == "fail":
            raise
        run.remarks.append(error.message)


@task(name="hook", task_run_name="hook {side}", **ONCE)
def hook(run: Run, side: Side, whole: bool = True) -> None:
    """See ``run_hook``."""
    run_hook(run, side, whole)


def note_begun(run: Run) -> None:
    """From now on the after hook has to be run: where we are killed first, the next run of the app will say so."""
    for note in _of_killed_runs(run.app):
        note.unlink(missing_ok=True)  # this run has a remark of it
    if "after" in run.hooks:
        note = _note(run.app, run.id.type)
        try:
            note.write_text(f"{run_mark()}\n{run.id}\n{run.hooks['after'].name}\n")
        except OSError as error:
            raise SpoolError(f"{note} cannot be written: {error.strerror}") from error


def note_ended(run: Run) -> None:
    """It was run."""
    _note(run.app, run.id.type).unlink(missing_ok=True)


def remarks_on_killed_runs(app: str) -> list[str]:
    """What became of earlier runs of *app* that were killed before their after hook."""
    found = []
    for note in _of_killed_runs(app):
        _, backup, hook_name = note.read_text().split("\n")[:3]
        found.append(f"run {backup} was killed before its after hook {hook_name}: see whether {app} is in order")
    return found


def _of_killed_runs(app: str) -> list[Path]:
    notes = [_note(app, kind) for kind in get_args(BackupType)]
    return [note for note in notes if note.exists() and not is_alive(note.read_text().partition("\n")[0])]


def _note(app: str, kind: str) -> Path:
    return turns() / f"{app}-{kind}.hook"
