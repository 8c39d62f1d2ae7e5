"""Apps, as they are saved."""

from __future__ import annotations

from blocks.app import APP_SLUG, App
from blocks.loading import block_name, load, missing, saved
from blocks.sources import Source
from console.models.common import Trouble
from console.models.status import AppInfo, SourceInfo
from console.problems import Problem, not_found
from tasks.schedules import Schedule
from tasks.schedules import found as schedules
from vault.errors import BackupError
from vault.store import check_name


def list_apps() -> list[AppInfo]:
    """Every saved app, by name."""
    known = schedules()
    return [_info(ref, known) for ref in saved([APP_SLUG])]


def get_app(name: str) -> AppInfo:
    """The saved app *name*; ``Problem`` 404 where there is none."""
    return _info(app_ref(name), schedules())


def app_ref(app: str) -> str:
    """The block of the saved app; ``Problem`` 404 where there is none."""
    ref = f"{APP_SLUG}/{check_name(app, 'app')}"
    if missing(ref):
        raise no_app(app)
    return ref


def no_app(app: str) -> Problem:
    """That there is no such app."""
    return not_found(f"app {app}", "See GET /api/apps.")


def _info(ref: str, known: list[Schedule]) -> AppInfo:
    app = load(ref, App)
    return AppInfo(
        name=block_name(ref),
        sources=[_source(source) for source in app.sources],
        destinations=[block_name(place) for place in app.destinations],
        encrypted=bool(app.recipients),
        consistent=app.consistent,
        keep_last=app.keep_last,
        schedules=[schedule.name for schedule in known if schedule.app == block_name(ref)],
    )


def _source(ref: str) -> SourceInfo:
    """What cannot be loaded is shown with the reason: an app with a broken source is still an app."""
    try:
        source = load(ref, Source)  # type: ignore[type-abstract]
    except BackupError as error:
        trouble = Trouble.of(ref, error)
        kind = ref.partition("/")[0]
        return SourceInfo(name=block_name(ref), kind=kind, category="files", location="", trouble=trouble)
    return SourceInfo(name=block_name(ref), kind=source.kind, category=source.category, location=source.location)
