"""Blocks that an admin saves: made, changed and removed, for whoever has a door to them: the command or the console.

Remedies here name no command: each door says itself how it is done there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prefect.blocks.core import Block
from prefect_shell import ShellOperation
from pydantic import ValidationError

from blocks.app import App
from blocks.destinations import DESTINATIONS
from blocks.destinations.base import limit_of
from blocks.hook import HOOK_SLUG
from blocks.loading import block_name, find, load, missing, problems, reference, saved
from blocks.mailer import Mailer
from blocks.ping import PING_SLUG, Ping
from blocks.servers import SERVERS
from blocks.sources import SOURCES, Source
from blocks.ssh_server import SshServer
from blocks.turns import drop_limit
from deployments.automations import forget
from tasks.schedules import found as schedules
from vault.errors import ConfigError
from vault.store import check_name

_APP = App.get_block_type_slug()
_LIMITED = ("destination", "server")

KINDS: dict[str, Mapping[str, type[Block]]] = {
    "source": SOURCES,
    "destination": DESTINATIONS,
    "app": {_APP: App},
    "hook": {HOOK_SLUG: ShellOperation},
    "server": {slug: SshServer for slug in SERVERS},
    "notification": {Mailer.get_block_type_slug(): Mailer, PING_SLUG: Ping},
}
"""What can be saved, and the kinds that each has, by the slugs of their block types."""


@dataclass(frozen=True)
class User:
    """What uses something that is saved: an app, a schedule, a source, or a server that is reached through it."""

    what: Literal["app", "schedule", "source", "server"]
    name: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}"


class Taken(ConfigError):
    """Something is saved under that name already; nothing was changed."""


class Unfit(ConfigError):
    """Fields that do not fit: *fields* has what is wrong with each, without its value."""

    def __init__(self, message: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields

    def __reduce__(self) -> tuple[type[Unfit], tuple[str, tuple[tuple[str, str], ...]]]:
        return type(self), (self.message, self.fields)


class InUse(ConfigError):
    """It is not removed while *users* need it."""

    def __init__(self, what: str, name: str, users: tuple[User, ...]) -> None:
        first, others = users[0], len(users) - 1
        more = f" (and {others} more)" if others else ""
        if first.what == "server":
            super().__init__(f"{first} is reached through {name}{more}", "Give it another way first.")
        else:
            super().__init__(f"{what} {name} is used by {first}{more}", "Change or remove that first.")
        self.what, self.name, self.users = what, name, users

    def __reduce__(self) -> tuple[type[InUse], tuple[str, str, tuple[User, ...]]]:
        return type(self), (self.what, self.name, self.users)


def made(kind: type[Any], **fields: Any) -> Any:
    """A block of *kind*; fields that do not fit are an ``Unfit`` error which names them."""
    try:
        return kind(**fields)
    except ValidationError as error:
        wrong = [(".".join(map(str, one["loc"])), str(one["msg"])) for one in error.errors(include_input=False)]
        raise Unfit(problems(error), tuple(wrong)) from None


def refuse_taken(what: str, name: str, block: Block) -> None:
    """Pass when nothing of the kind of *block* is saved as *name*; else ``Taken``."""
    check_name(name, what)
    if not missing(reference(block, name)):
        raise Taken(f"{what} {name} is saved already", "Change it, remove it first, or give another name.")


def changed(what: str, name: str, kind: type[Any], changes: dict[str, Any]) -> Any:
    """The saved block *name* of *kind* with *changes*, not saved yet: what is not among them stays, secrets too."""
    before = load(f"{kind.get_block_type_slug()}/{check_name(name, what)}", kind)
    fields = {field: getattr(before, field) for field in kind.model_fields}
    return made(kind, **{**fields, **changes})


def store(what: str, name: str, block: Any, *, overwrite: bool) -> None:
    """Save *block* as *name*, with the limit that it has; whether it works is for the caller to have tested."""
    block.save(name, overwrite=overwrite)
    if what in _LIMITED:
        block.set_limit()


def found(what: str, name: str) -> Any:
    """The saved block *name*, of whatever kind; ``ConfigError`` where there is none."""
    return load(find(name, KINDS[what], what), Block)


def public(block: Block) -> dict[str, Any]:
    """The fields of a block as JSON has them; secrets stay masked."""
    document = block.model_dump(mode="json", exclude={"server"})
    fields = {name: value for name, value in document.items() if name in type(block).model_fields}
    server = block.server if isinstance(block, Source) else None
    return {**fields, "server": server.location} if isinstance(server, SshServer) else fields


def users(what: str, ref: str) -> tuple[User, ...]:
    """Everything that names the block saved as *ref*, which is a *what*."""
    return (*users_of([ref])[ref], *(_on_server(ref) if what == "server" else ()))


def users_of(refs: Collection[str]) -> dict[str, tuple[User, ...]]:
    """The apps and schedules that name each of *refs*."""
    found = [*_apps(), *_scheduled()]
    return {ref: tuple(user for user, names in found if ref in names) for ref in refs}


def remove(what: str, name: str) -> None:
    """Forget the saved block *name*, and the limit or the automation that it has. ``InUse`` while something needs it.

    No backup is touched.
    """
    ref = find(name, KINDS[what], what)
    needed = users(what, ref)
    if needed:
        raise InUse(what, block_name(name), needed)
    if what == "server":
        load(ref, SshServer).drop_limit()
    if what == "destination":
        drop_limit(limit_of(ref))
    if what == "notification":
        forget(name)
    Block.delete(ref)


def _apps() -> Iterator[tuple[User, list[str]]]:
    for ref in saved([_APP]):
        app = load(ref, App)
        yield User("app", block_name(ref)), [*app.sources, *app.destinations, app.before, app.after]


def _scheduled() -> Iterator[tuple[User, list[str]]]:
    for schedule in schedules():
        yield User("schedule", schedule.name), schedule.uses


def _on_server(ref: str) -> Iterator[User]:
    server = load(ref, SshServer)
    for source in saved(SOURCES):
        on = load(source, Source).server  # type: ignore[type-abstract]
        if isinstance(on, SshServer) and on.limit == server.limit:
            yield User("source", block_name(source))
    for other in saved(SERVERS):
        if load(other, SshServer).jump == ref:
            yield User("server", block_name(other))
