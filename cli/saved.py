"""What `backups source`, `destination` and `app` share: save after a test, list, show, test, remove."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.output import note, show_json, show_table
from vault.errors import BackupError, ConfigError
from vault.store import check_name

if TYPE_CHECKING:
    from prefect.blocks.core import Block
    from pydantic import SecretStr

Flag = Parameter(negative="")
Repeated = Parameter(negative="", consume_multiple=False)
SecretFile = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""A file that holds a secret; ``-`` is standard input, which the command line would else take for an option."""

_OPTIONS = "--password-file FILE (- for standard input), or --no-password"
_CHANGEABLE = _LIMITED = ("destination", "server")
_ARTICLE = {"list": "every saved", "show": "a saved", "test": "a saved", "remove": "a saved"}


def made(kind: type[Any], **fields: Any) -> Any:
    """A block of *kind*; a field that does not fit is a ``ConfigError`` which names it."""
    from pydantic import ValidationError

    from blocks.loading import problems

    try:
        return kind(**fields)
    except ValidationError as error:
        raise ConfigError(problems(error)) from None


def save(what: str, name: str, block: Any, no_test: bool) -> None:
    """Save *block*, after a test of it unless that is not wanted; a name that is taken is refused."""
    from blocks.loading import missing, reference

    check_name(name, what)
    if not missing(reference(block, name)):
        change = f"Change it: backups {what} update {name} …; or r" if what in _CHANGEABLE else "R"
        raise ConfigError(f"{what} {name} is saved already", f"{change}emove it first: {_noun(what)} remove {name}")
    _save(what, name, block, no_test, overwrite=False)


def update(what: str, name: str, kind: type[Any], changes: dict[str, Any], no_test: bool) -> None:
    """Save *changes* with the saved block *name* of *kind*, after a test of it; a value of None means: as it was.

    What is not given stays, secrets too. A kind joins in with one command of three lines, see ``update_local``.
    """
    from blocks.loading import load

    given = {field: value for field, value in changes.items() if value is not None}
    if not given:
        raise ConfigError("nothing is to be changed", f"Give an option: see `backups {what} update --help`.")
    before = load(f"{kind.get_block_type_slug()}/{check_name(name, what)}", kind)
    fields = {field: getattr(before, field) for field in kind.model_fields}
    _save(what, name, made(kind, **{**fields, **given}), no_test, overwrite=True)


def _save(what: str, name: str, block: Any, no_test: bool, overwrite: bool) -> None:
    if not no_test:
        try:
            block.check()
        except BackupError:
            note(f"The test of {what} {name} failed: nothing was saved. With --no-test it is saved all the same.")
            raise
    block.save(name, overwrite=overwrite)
    if what in _LIMITED:
        block.set_limit()
    note(f"Saved {what} {name}: {block.location}" + (" (not tested)" if no_test else ""))


def update_any(what: str, updates: App, name: str, options: tuple[str, ...]) -> None:
    """Run the update command of the kind that the saved block *name* has."""
    with prefect_api():
        from blocks.loading import find

        slug, _, own = find(name, _kinds(what), what).partition("/")
        words = [slug.removesuffix(f"-{what}"), own, *options]
        updates(words, exit_on_error=False, print_error=False, result_action="return_value")


def secret(prompt: str, file: str | None, else_give: str = _OPTIONS) -> str:
    """A secret, asked for at the terminal, or read from *file* (``-``: standard input); never an argument."""
    if file == "-":
        if sys.stdin.isatty():
            return getpass.getpass(f"{prompt}: ")
        return sys.stdin.readline().rstrip("\n")
    if file is not None:
        try:
            return Path(file).read_text().rstrip("\n")
        except OSError as error:
            raise ConfigError(f"the file {file} with a secret cannot be read: {error.strerror}") from error
    if not sys.stdin.isatty():
        raise ConfigError(f"{prompt} is needed, and there is no terminal to ask for it", f"Give {else_give}.")
    return getpass.getpass(f"{prompt}: ")


def new_secret(prompt: str, file: str | None) -> SecretStr | None:
    """For ``update``: the secret in *file* (``-``: asked for, or from standard input); None where it is to stay."""
    from pydantic import SecretStr

    return None if file is None else SecretStr(secret(prompt, file))


def read_whole(path: str) -> str:
    """What the file *path* holds (``-``: standard input), such as a key of several lines."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error


def _noun(what: str) -> str:
    return "backups notify" if what == "notification" else f"backups {what}"


def _kinds(what: str) -> dict[str, type[Block]]:
    from prefect_shell import ShellOperation

    from blocks.app import App as AppBlock
    from blocks.destinations import DESTINATIONS
    from blocks.hook import HOOK_SLUG
    from blocks.mailer import Mailer
    from blocks.ping import PING_SLUG, Ping
    from blocks.servers import SERVERS
    from blocks.sources import SOURCES
    from blocks.ssh_server import SshServer

    kinds: dict[str, dict[str, type[Block]]] = {
        "source": {**SOURCES},
        "destination": {**DESTINATIONS},
        "app": {AppBlock.get_block_type_slug(): AppBlock},
        "hook": {HOOK_SLUG: ShellOperation},
        "server": {slug: SshServer for slug in SERVERS},
        "notification": {Mailer.get_block_type_slug(): Mailer, PING_SLUG: Ping},
    }
    return kinds[what]


def _list(what: str, json: bool) -> None:
    with prefect_api():
        from blocks.loading import saved

        refs = [ref.partition("/") for ref in saved(_kinds(what))]
    if json:
        show_json([{"name": name, "kind": slug} for slug, _, name in refs])
    elif refs:
        show_table(("NAME", "KIND"), [(name, slug) for slug, _, name in refs])
    else:
        note(f"No {what} is saved yet; see `{_noun(what)} add --help`.")


def _show(what: str, name: str, json: bool) -> None:
    with prefect_api():
        block = _found(what, name)
        fields = _public(block)
    if json:
        show_json({"name": name, **fields})
    else:
        show_table(("FIELD", "VALUE"), [("name", name), *[(field, str(value)) for field, value in fields.items()]])


def _public(block: Block) -> dict[str, Any]:
    """The fields of a block as JSON has them; secrets stay masked."""
    from blocks.sources.base import Source
    from blocks.ssh_server import SshServer

    document = block.model_dump(mode="json", exclude={"server"})
    fields = {name: value for name, value in document.items() if name in type(block).model_fields}
    server = block.server if isinstance(block, Source) else None
    return {**fields, "server": server.location} if isinstance(server, SshServer) else fields


def _found(what: str, name: str) -> Any:
    from prefect.blocks.core import Block

    from blocks.loading import find, load

    return load(find(name, _kinds(what), what), Block)


def _test(what: str, name: str) -> None:
    with prefect_api():
        from blocks.app import App as AppBlock
        from blocks.app import load_destinations

        block = _found(what, name)
        parts = {name: block}
        if isinstance(block, AppBlock):
            parts = {**block.load_sources(None), **load_destinations(block.destinations)}
        for part, door in parts.items():
            door.check()
            note(f"{part} works: {door.location}")


def _remove(what: str, name: str) -> None:
    with prefect_api():
        from prefect.blocks.core import Block

        from blocks.app import App as AppBlock
        from blocks.destinations.base import limit_of
        from blocks.loading import find, load, saved
        from blocks.turns import drop_limit

        ref = find(name, _kinds(what), what)
        slug = AppBlock.get_block_type_slug()
        for app_ref in saved([slug]) if what != "app" else []:
            app = load(app_ref, AppBlock)
            if ref in (*app.sources, *app.destinations, app.before, app.after):
                raise ConfigError(
                    f"{what} {name} is used by app {app_ref.partition('/')[2]}",
                    f"Change that first: backups app update {app_ref.partition('/')[2]} …",
                )
        if what in ("app", "destination", "notification"):
            _refuse_scheduled(what, name, ref)
        if what == "server":
            _release(ref)
        if what == "destination":
            drop_limit(limit_of(ref))
        if what == "notification":
            from deployments.automations import forget

            forget(name)
        Block.delete(ref)
    note(f"Removed {what} {name}. Backups that lie at destinations were not touched.")


def _refuse_scheduled(what: str, name: str, ref: str) -> None:
    from tasks.schedules import found

    for schedule in found():
        if ref in schedule.uses:
            raise ConfigError(
                f"{what} {name} is used by schedule {schedule.name}",
                f"Remove that first: backups schedule remove {schedule.name}; or change it: backups schedule update …",
            )


def _release(server: str) -> None:
    """Refuse where a source lies on *server*, or another one is reached through it; else it has no limit any more."""
    from blocks.loading import block_name, load, saved
    from blocks.servers import SERVERS
    from blocks.sources import SOURCES, Source
    from blocks.ssh_server import SshServer

    found = load(server, SshServer)
    for ref in saved(SOURCES):
        on = load(ref, Source).server  # type: ignore[type-abstract]
        if isinstance(on, SshServer) and on.limit == found.limit:
            raise ConfigError(
                f"server {block_name(server)} is used by source {block_name(ref)}",
                f"Remove that first: backups source remove {block_name(ref)}",
            )
    for ref in saved(SERVERS):
        if load(ref, SshServer).jump == server:
            raise ConfigError(
                f"server {block_name(ref)} is reached through {block_name(server)}",
                f"Give it another way first: backups server update {block_name(ref)} --jump NAME",
            )
    found.drop_limit()


def add_verbs(noun: App, what: str) -> None:
    """Give *noun* the verbs that every saved thing has: list, show, remove, and test where it has none of its own."""

    @noun.command(name="list")
    def list_all(*, json: Annotated[bool, Flag] = False) -> None:
        _list(what, json)

    @noun.command(name="show")
    def show_one(name: str, /, *, json: Annotated[bool, Flag] = False) -> None:
        _show(what, name, json)

    @noun.command(name="remove")
    def remove_one(name: str, /) -> None:
        _remove(what, name)

    def test_one(name: str, /) -> None:
        _test(what, name)

    if what not in ("destination", "hook"):
        noun.command(test_one, name="test")
    for verb in (list_all, show_one, remove_one, test_one):
        action = verb.__name__.partition("_")[0]
        verb.__doc__ = f"{action.capitalize()} {_ARTICLE[action]} {what}.\n\nExample: {_noun(what)} {action}" + (
            "" if action == "list" else " NAME"
        )
