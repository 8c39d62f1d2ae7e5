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

if TYPE_CHECKING:
    from pydantic import SecretStr

    from deployments.saved import User

Flag = Parameter(negative="")
Repeated = Parameter(negative="", consume_multiple=False)
SecretFile = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
"""A file that holds a secret; ``-`` is standard input, which the command line would else take for an option."""

_OPTIONS = "--password-file FILE (- for standard input), or --no-password"
_CHANGEABLE = ("destination", "server")
_ARTICLE = {"list": "every saved", "show": "a saved", "test": "a saved", "remove": "a saved"}


def made(kind: type[Any], **fields: Any) -> Any:
    """A block of *kind*; a field that does not fit is a ``ConfigError`` which names it."""
    from deployments import saved

    return saved.made(kind, **fields)


def save(what: str, name: str, block: Any, no_test: bool) -> None:
    """Save *block*, after a test of it unless that is not wanted; a name that is taken is refused."""
    from deployments.saved import Taken, refuse_taken

    try:
        refuse_taken(what, name, block)
    except Taken as error:
        change = f"Change it: backups {what} update {name} …; or r" if what in _CHANGEABLE else "R"
        raise ConfigError(error.message, f"{change}emove it first: {_noun(what)} remove {name}") from None
    _save(what, name, block, no_test, overwrite=False)


def update(what: str, name: str, kind: type[Any], changes: dict[str, Any], no_test: bool) -> None:
    """Save *changes* with the saved block *name* of *kind*, after a test of it; a value of None means: as it was.

    What is not given stays, secrets too. A kind joins in with one command of three lines, see ``update_local``.
    """
    from deployments.saved import changed

    given = {field: value for field, value in changes.items() if value is not None}
    if not given:
        raise ConfigError("nothing is to be changed", f"Give an option: see `backups {what} update --help`.")
    _save(what, name, changed(what, name, kind, given), no_test, overwrite=True)


def _save(what: str, name: str, block: Any, no_test: bool, overwrite: bool) -> None:
    from deployments.saved import store

    if not no_test:
        try:
            block.check()
        except BackupError:
            note(f"The test of {what} {name} failed: nothing was saved. With --no-test it is saved all the same.")
            raise
    store(what, name, block, overwrite=overwrite)
    note(f"Saved {what} {name}: {block.location}" + (" (not tested)" if no_test else ""))


def update_any(what: str, updates: App, name: str, options: tuple[str, ...]) -> None:
    """Run the update command of the kind that the saved block *name* has."""
    with prefect_api():
        from blocks.loading import find
        from deployments.saved import KINDS

        slug, _, own = find(name, KINDS[what], what).partition("/")
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


def _list(what: str, json: bool) -> None:
    with prefect_api():
        from blocks.loading import saved
        from deployments.saved import KINDS

        refs = [ref.partition("/") for ref in saved(KINDS[what])]
    if json:
        show_json([{"name": name, "kind": slug} for slug, _, name in refs])
    elif refs:
        show_table(("NAME", "KIND"), [(name, slug) for slug, _, name in refs])
    else:
        note(f"No {what} is saved yet; see `{_noun(what)} add --help`.")


def _show(what: str, name: str, json: bool) -> None:
    with prefect_api():
        from deployments.saved import found, public

        fields = public(found(what, name))
    if json:
        show_json({"name": name, **fields})
    else:
        show_table(("FIELD", "VALUE"), [("name", name), *[(field, str(value)) for field, value in fields.items()]])


def _test(what: str, name: str) -> None:
    with prefect_api():
        from blocks.app import App as AppBlock
        from blocks.app import load_destinations
        from deployments.saved import found

        block = found(what, name)
        parts = {name: block}
        if isinstance(block, AppBlock):
            parts = {**block.load_sources(None), **load_destinations(block.destinations)}
        for part, door in parts.items():
            door.check()
            note(f"{part} works: {door.location}")


def _remove(what: str, name: str) -> None:
    with prefect_api():
        from deployments.saved import InUse, remove

        try:
            remove(what, name)
        except InUse as error:
            raise ConfigError(error.message, _first(error.users[0])) from None
    note(f"Removed {what} {name}. Backups that lie at destinations were not touched.")


def _first(user: User) -> str:
    """The command that has it need something no more."""
    return {
        "app": f"Change that first: backups app update {user.name} …",
        "schedule": f"Remove that first: backups schedule remove {user.name}; or change it: backups schedule update …",
        "source": f"Remove that first: backups source remove {user.name}",
        "server": f"Give it another way first: backups server update {user.name} --jump NAME",
    }[user.what]


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
