"""What a restore will do, shown to a person before it is done, and asked for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.output import note, show_json, show_table
from vault.errors import ConfigError, RestoreRefused
from vault.store import is_path
from vault.units import human

if TYPE_CHECKING:
    from tasks.resolve import Outlook, RestoreRequest
    from vault.record import BackupRecord
    from vault.signing import Trust

_HEADS = ("SOURCE", "SIZE", "TARGET", "WHAT HAPPENS THERE")


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for. *options* are the fields of ``RestoreOptions``, which needs Prefect's time."""

    app: str
    backup: str
    targets: Mapping[str, str]
    source: str | None
    options: tuple[bool, bool, int, tuple[str, ...], tuple[str, ...]]
    identity: Path | None
    trust: tuple[str, ...]
    in_place: bool
    """Whether what has no target goes to where the app's saved source lies."""
    server: str | None

    @property
    def server_ref(self) -> str | None:
        """The saved server that is meant."""
        from blocks.loading import find
        from blocks.named_server import LOCAL
        from blocks.servers import SERVERS

        return self.server if self.server in (None, LOCAL) else find(self.server, SERVERS, "server")

    def request(self) -> RestoreRequest:
        """The same, with the blocks that it names."""
        from blocks.named_server import server_named
        from blocks.sources.base import RestoreOptions
        from tasks.resolve import RestoreRequest, places_of

        ref = self.server_ref
        machine = server_named(ref) if ref else None
        return RestoreRequest(
            self.app,
            self.backup,
            self.targets,
            self.source,
            RestoreOptions(*self.options),
            self.identity,
            places_of(self.app, machine) if self.in_place else {},
            machine,
        )

    def believed(self, place: str) -> Trust:
        """Whose records are believed at *place*."""
        from blocks.signing_key import keyring, known_trust
        from vault.signing import Trust

        if is_path(place):
            return known_trust(self.trust)
        return Trust(keyring().trust.public_keys, frozenset(self.trust))


def destination_of(wanted: Wanted) -> str:
    """The app's destination where the backup lies that is meant; for ``latest``, the newest of all that answer."""
    from tasks.listing import place_of

    place, problems = place_of(wanted.app, wanted.backup, wanted.source, wanted.believed)
    for problem in problems:
        note(f"warning: {problem.message}")
    return place


def looked_at(wanted: Wanted, place: str, *, dry_run: bool, ask: bool, json: bool) -> Wanted:
    """The same for the very backup that was shown, once the operator has agreed to what will be done.

    ``RestoreRefused`` where a target is refused, ``ConfigError`` where nobody can be asked.
    """
    from blocks.destinations import destination_from
    from tasks.resolve import outlook

    plan, found = outlook(wanted.request(), destination_from(place), wanted.believed(place))
    for warning in plan.warnings:
        note(f"warning: {warning}")
    _show(plan.record, place, found, dry_run, json)
    refused = [one.refused for one in found if one.refused is not None]
    if refused:
        remedies = dict.fromkeys(error.remedy for error in refused if error.remedy)
        messages = "; ".join(error.message for error in refused)
        raise RestoreRefused(f"nothing was restored: {messages}", "\n".join(remedies))
    if ask and not dry_run:
        _ask(wanted.app)
    return replace(wanted, backup=plan.record.id)


def _show(record: BackupRecord, place: str, found: list[Outlook], result: bool, json: bool) -> None:
    """*result*: this is all that the command says."""
    if result and json:
        show_json({"id": record.id, "app": record.app, "from": place, "artifacts": [_row(one) for one in found]})
        return
    out = sys.stdout if result else sys.stderr
    print(f"Backup {record.id} of {record.app}, from {place}, in this order:", file=out)
    cells = [
        (one.artifact.source, human(one.artifact.plain_size), one.target.location, one.what_happens) for one in found
    ]
    show_table(_HEADS, cells, file=out)


def _row(one: Outlook) -> dict[str, Any]:
    return {
        "source": one.artifact.source,
        "kind": one.artifact.kind,
        "size": one.artifact.plain_size,
        "target": one.target.location,
        "replaces": one.there or None,
        "refused": one.refused.message if one.refused else None,
    }


def _ask(app: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"nothing was restored: {app} would go to where it lives, and there is no terminal to ask",
            "Look at what is shown above, and add --yes.",
        )
    sys.stderr.write("Do this? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RestoreRefused("nothing was restored: it was not agreed to")
