"""What a restore will do: which backup, each artifact's target, and what is there now. Nothing is changed by looking.

Targets are what the operator typed, or the places of the app's own saved sources; never what a record says (A15).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from blocks.app import APP_SLUG, App
from blocks.destinations.base import Destination
from blocks.loading import load, missing
from blocks.named_server import Server
from blocks.servers import LocalServer
from blocks.sources import target_for
from blocks.sources.base import RestoreOptions, Source
from vault.age import parse_identities
from vault.catalog import Catalog, History
from vault.errors import BackupError, ConfigError, RestoreRefused, printable
from vault.record import Artifact, BackupRecord
from vault.signing import Trust
from vault.workspace import contains, default_root


@dataclass(frozen=True)
class RestoreRequest:
    """What the operator asked for. *targets* are by source; the key ``""`` stands for all others.

    *places*, by source too: where it goes that has no target. *server*: the machine on which the targets lie.
    """

    app: str
    backup: str
    targets: Mapping[str, str]
    source: str | None = None
    options: RestoreOptions = field(default_factory=RestoreOptions)
    identity_file: Path | None = None
    places: Mapping[str, Source] = field(default_factory=dict)
    server: Server | None = None
    elsewhere: bool = False
    """It will be restored by another machine: the identity is not looked for on this one."""


@dataclass(frozen=True)
class Plan:
    """What will be restored where, databases first: decided, and checked, before a byte is fetched."""

    record: BackupRecord
    artifacts: tuple[tuple[Artifact, Source], ...]
    warnings: tuple[str, ...]
    base: Path | None = None
    """The directory below which the sources go, where it is still to be made."""


@dataclass(frozen=True)
class Outlook:
    """What a restore would do with one artifact. *there*: what its target holds now, which would be replaced."""

    artifact: Artifact
    target: Source
    there: str
    refused: BackupError | None

    @property
    def what_happens(self) -> str:
        """For a person."""
        if self.refused is not None:
            return f"refused: {self.refused.message}"
        return f"replaced: {self.there}" if self.there else "new"


def resolve_backup(request: RestoreRequest, destination: Destination, trust: Trust) -> Plan:
    """The backup that is meant, authenticated, and its targets, each found fit to take it."""
    plan = _meant(request, destination, trust)
    for artifact, target in plan.artifacts:
        if plan.base is None or artifact.source in request.targets:
            target.check_target(request.options)
    return plan


def outlook(request: RestoreRequest, destination: Destination, trust: Trust) -> tuple[Plan, list[Outlook]]:
    """The same, for a person to look at: also what is refused, and what would be replaced."""
    plan = _meant(request, destination, trust)
    found = []
    for artifact, target in plan.artifacts:
        if plan.base is None or artifact.source in request.targets:
            found.append(Outlook(artifact, target, *_look(target, request.options)))
        else:
            found.append(Outlook(artifact, target, "", None))
    return plan, found


def _look(target: Source, options: RestoreOptions) -> tuple[str, BackupError | None]:
    there = ""
    try:
        target.check_target(replace(options, overwrite=False))
    except RestoreRefused as error:
        if not options.overwrite:
            return "", error
        there = error.message
    except BackupError as error:
        return "", error
    if there:
        try:
            target.check_target(options)
        except BackupError as error:
            return "", error
    return there, None


def places_of(app: str, server: Server | None) -> dict[str, Source]:
    """Where the saved sources of *app* lie: on their own machines, or in the same places of *server*."""
    ref = f"{APP_SLUG}/{app}"
    if missing(ref):
        raise ConfigError(
            f"app {app} is not saved here, so that nothing is known of where its sources lie",
            "Say where to restore it to: --to TARGET.",
        )
    sources = load(ref, App).load_sources(None)
    return {name: _moved(source, server) for name, source in sources.items()}


def _moved(source: Source, server: Server | None) -> Source:
    return source if server is None else source.model_copy(update={"server": server})


def _meant(request: RestoreRequest, destination: Destination, trust: Trust) -> Plan:
    now = datetime.now(UTC)
    history = Catalog(destination, request.app, trust).history()
    record = history.find(request.backup, now, request.source)
    if request.identity_file is not None and not request.elsewhere:
        identities(request.identity_file)
    warnings = list(_warnings(request, history, record, now))
    chosen = chosen_of(request, record)
    for artifact, target in chosen:
        _refuse_overlap(target, destination)
        warnings += _of_other_machine(request, artifact, target)
    chosen.sort(key=lambda pair: pair[1].category != "database")
    return Plan(record, tuple(chosen), tuple(warnings), _missing_base(request, [artifact for artifact, _ in chosen]))


def chosen_of(request: RestoreRequest, record: BackupRecord) -> list[tuple[Artifact, Source]]:
    """What of *record* is asked for, and where it would go: judged by what was typed, and nothing there is looked at.

    ``ConfigError`` where a target cannot take its artifact, none is given, or an identity is missing.
    """
    wanted = [record.artifact(request.source)] if request.source else list(record.artifacts)
    if (request.options.paths or request.options.tables) and len(wanted) > 1:
        names = ", ".join(artifact.source for artifact in wanted)
        raise ConfigError(f"{record.id} has several sources: {names}", "Say of which you want a part: --source NAME.")
    chosen = []
    for artifact in wanted:
        if artifact.recipients and request.identity_file is None:
            raise ConfigError(
                f"{artifact.key} is encrypted to {', '.join(artifact.recipients)}",
                "Add --identity FILE, with the age identity of one of them.",
            )
        target = _target(request, artifact, len(wanted) > 1)
        target.check_part(request.options)
        chosen.append((artifact, target))
    return chosen


def _warnings(request: RestoreRequest, history: History, record: BackupRecord, now: datetime) -> tuple[str, ...]:
    if request.backup != "latest":
        return ()
    damaged = [f"skipped a newer backup: {d.error.message}" for d in history.newer_damaged(record)]
    future = [f"passed over: {one.message}. {one.remedy}" for one in history.from_the_future(now)]
    own = {artifact.source for artifact in record.artifacts}
    others = {artifact.source for other in history.records for artifact in other.artifacts} - own
    absent = [f"{record.id} is the latest, and has no {name}: see --source" for name in sorted(others)]
    return (*damaged, *future, *(absent if request.source is None else ()))


def _of_other_machine(request: RestoreRequest, artifact: Artifact, target: Source) -> list[str]:
    """That a saved source which is moved to another server still connects to a host by its name.

    Its own localhost is another on each server; a name mostly is the same machine, and may be the one in use.
    """
    moved = request.server is not None and target is request.places.get(artifact.source)
    host = target.connects_to
    if not moved or not host or host == getattr(request.server, "host", ""):
        return []
    return [
        f"{artifact.source} is restored to the server that {printable(host)} is, as seen from"
        f" {target.server.location}: that may be the one it was backed up from. Another one is named by"
        f" --to {artifact.source}=URL"
    ]


def _refuse_overlap(target: Source, destination: Destination) -> None:
    """A target that contains the backups, or lies among them, would replace what it is restored from."""
    for path in target.paths:
        for ours in (*destination.paths, default_root()):
            if contains(path, ours) or contains(ours, path):
                raise RestoreRefused(f"{path} and {ours} lie within each other", "Restore to a place of its own.")


def _missing_base(request: RestoreRequest, wanted: list[Artifact]) -> Path | None:
    below = [artifact for artifact in wanted if artifact.source not in request.targets]
    text = request.targets.get("")
    if request.server is not None and not isinstance(request.server, LocalServer):
        return None  # it is not made for you there
    if len(wanted) < 2 or not below or text is None or "://" in text or Path(text).exists():
        return None
    if not Path(text).parent.is_dir():
        raise RestoreRefused(
            f"{text} cannot be made: its parent directory is missing", "Make the parent directory first."
        )
    return Path(text)


def _target(request: RestoreRequest, artifact: Artifact, several: bool) -> Source:
    own = request.targets.get(artifact.source)
    text = own or request.targets.get("")
    if text is not None:
        target = target_for(artifact.kind, text, artifact.source if several and own is None else None)
        return _moved(target, request.server)
    place = request.places.get(artifact.source)
    if place is None:
        why = " and the saved app has none of that name" if request.places else ""
        raise ConfigError(
            f"no target is given for source {artifact.source}{why}", f"Add --to {artifact.source}=TARGET."
        )
    if place.kind != artifact.kind:
        raise ConfigError(
            f"source {artifact.source} of the backup is a {artifact.kind}, and the saved one is a {place.kind}",
            f"Say where it goes: --to {artifact.source}=TARGET.",
        )
    return place


def identities(file: Path | None) -> tuple[str, ...]:
    """The age identities in *file*."""
    if file is None:
        return ()
    try:
        return parse_identities(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the identity file {file} cannot be read: {error}") from error
