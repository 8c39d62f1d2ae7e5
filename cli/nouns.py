"""``backups source | app | destination``: add, list, show, test, remove what is saved."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.output import note, show_json, show_table
from vault.errors import ConfigError
from vault.store import absolute, check_name

if TYPE_CHECKING:
    from prefect.blocks.core import Block

Flag = Parameter(negative="")
Repeated = Parameter(negative="", consume_multiple=False)

source_app = App(name="source", help="What is backed up: databases and directories.", version_flags=[])
destination_app = App(name="destination", help="Where backups go.", version_flags=[])
app_app = App(name="app", help="What is backed up together, and where to.", version_flags=[])
_add_source = App(name="add", help="Save a source, after a test of it.", version_flags=[])
_add_destination = App(name="add", help="Save a destination, after a test of it.", version_flags=[])
source_app.command(_add_source)
destination_app.command(_add_destination)


@_add_source.command(name="postgres")
def add_postgres(
    name: str,
    /,
    *,
    database: str,
    user: str,
    host: str = "localhost",
    port: int = 5432,
    password_file: str | None = None,
    no_password: Annotated[bool, Flag] = False,
    plain: Annotated[bool, Flag] = False,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a PostgreSQL database. Its password is asked for.

    Example: backups source add postgres shop-db --database shop --user shop

    Parameters
    ----------
    name
        The name of the source.
    database
        The database's name.
    user
        The role that reads it.
    host
        A host name, or the directory of a Unix socket.
    port
        The server's port.
    password_file
        A file with the password, or - for standard input.
    no_password
        The server needs none, or ~/.pgpass has it.
    plain
        Dump as SQL text instead of pg_dump's custom format.
    no_test
        Save it without a test.
    """
    password = None if no_password else _secret(f"Password of {user} at {host}", password_file)
    with prefect_api():
        from pydantic import SecretStr

        from blocks.sources import PostgresDatabase

        block = _made(
            PostgresDatabase,
            database=database,
            username=user,
            host=host,
            port=port,
            password=SecretStr(password or ""),
            format="plain" if plain else "custom",
        )
        _save("source", name, block, no_test)


@_add_source.command(name="sqlite")
def add_sqlite(name: str, path: Path, /, *, no_test: Annotated[bool, Flag] = False) -> None:
    """Save an SQLite database.

    Example: backups source add sqlite shop-db /srv/shop/shop.sqlite

    Parameters
    ----------
    name
        The name of the source.
    path
        The database's file.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.sources import SqliteDatabase

        _save("source", name, _made(SqliteDatabase, path=absolute(str(path))), no_test)


@_add_source.command(name="directory")
def add_directory(
    name: str,
    path: Path,
    /,
    *,
    exclude: Annotated[list[str] | None, Repeated] = None,
    one_file_system: Annotated[bool, Flag] = False,
    allow_unreadable: Annotated[bool, Flag] = False,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a directory.

    Example: backups source add directory shop-uploads /srv/shop/uploads --exclude '*.tmp'

    Parameters
    ----------
    name
        The name of the source.
    path
        The directory.
    exclude
        A pattern of names to leave out. Repeatable.
    one_file_system
        Do not descend into other file systems.
    allow_unreadable
        Warn about files that cannot be read, instead of failing.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.sources import Directory

        block = _made(
            Directory,
            path=absolute(str(path)),
            exclude=exclude or [],
            one_file_system=one_file_system,
            allow_unreadable=allow_unreadable,
        )
        _save("source", name, block, no_test)


@_add_destination.command(name="local")
def add_local(name: str, root: Path, /, *, no_test: Annotated[bool, Flag] = False) -> None:
    """Save a local directory as a destination, and mark it, so that a missing disk is noticed.

    Example: backups destination add local disk /mnt/backups

    Parameters
    ----------
    name
        The name of the destination.
    root
        The directory; made when it does not exist.
    no_test
        Save it without a test.
    """
    with prefect_api():
        from blocks.destinations import LocalDestination

        check_name(name, "destination")
        block = _made(LocalDestination, root=absolute(str(root)))
        block.prepare()
        _save("destination", name, block, no_test)


@app_app.command(name="add")
def add_app(
    name: str,
    /,
    *,
    source: Annotated[list[str], Repeated],
    to: Annotated[list[str] | None, Repeated] = None,
    encrypt_to: Annotated[list[str] | None, Repeated] = None,
    compression: Literal["zstd", "gzip", "none"] | None = None,
    keep_last: int | None = None,
) -> None:
    """Save an app.

    Example: backups app add shop --source shop-db --source /srv/shop/uploads --to disk

    Parameters
    ----------
    name
        The name of the app.
    source
        A saved source, or a database URL, an SQLite file or a directory. Repeatable.
    to
        A saved destination, or a directory. Repeatable.
    encrypt_to
        An age recipient (age1…). Repeatable.
    compression
        How its backups are compressed; default zstd.
    keep_last
        Keep so many backups of each type at each destination; default all.
    """
    with prefect_api():
        from cli.adhoc import Wanted, save_app

        save_app(name, Wanted(source, to or [], encrypt_to or [], compression, keep_last))
    note(f"Saved app {name}. Back it up with: backups run {name}")


def _made(kind: type[Any], **fields: Any) -> Any:
    """A block of *kind*; a field that does not fit is a ``ConfigError`` which names it."""
    from pydantic import ValidationError

    try:
        return kind(**fields)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
        raise ConfigError("; ".join(problems)) from None


def _save(what: str, name: str, block: Any, no_test: bool) -> None:
    from blocks.loading import missing, reference

    check_name(name, what)
    if not missing(reference(block, name)):
        raise ConfigError(f"{what} {name} is saved already", f"Remove it first: backups {what} remove {name}")
    if not no_test:
        block.check()
    block.save(name)
    note(f"Saved {what} {name}: {block.location}" + (" (not tested)" if no_test else ""))


def _secret(prompt: str, file: str | None) -> str:
    if file == "-":
        return sys.stdin.readline().rstrip("\n")
    if file is not None:
        try:
            return Path(file).read_text().rstrip("\n")
        except OSError as error:
            raise ConfigError(f"the password file {file} cannot be read: {error.strerror}") from error
    if not sys.stdin.isatty():
        raise ConfigError(
            "a password is needed, and there is no terminal to ask for it",
            "Give --password-file FILE (- for standard input), or --no-password.",
        )
    return getpass.getpass(f"{prompt}: ")


def _kinds(what: str) -> dict[str, type[Block]]:
    from blocks.app import App as AppBlock
    from blocks.destinations import DESTINATIONS
    from blocks.sources import SOURCES

    kinds: dict[str, dict[str, type[Block]]] = {
        "source": {**SOURCES},
        "destination": {**DESTINATIONS},
        "app": {AppBlock.get_block_type_slug(): AppBlock},
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
        note(f"No {what} is saved yet; see `backups {what} add --help`.")


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
    document = block.model_dump(mode="json", exclude={"server"})
    return {name: value for name, value in document.items() if name in type(block).model_fields}


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
        from blocks.loading import find, load, saved

        ref = find(name, _kinds(what), what)
        slug = AppBlock.get_block_type_slug()
        for app_ref in saved([slug]) if what != "app" else []:
            app = load(app_ref, AppBlock)
            if ref in (*app.sources, *app.destinations):
                raise ConfigError(
                    f"{what} {name} is used by app {app_ref.partition('/')[2]}",
                    f"Remove that first: backups app remove {app_ref.partition('/')[2]}",
                )
        Block.delete(ref)
    note(f"Removed {what} {name}. Backups that lie at destinations were not touched.")


def _add_verbs(noun: App, what: str) -> None:
    @noun.command(name="list")
    def list_all(*, json: Annotated[bool, Flag] = False) -> None:
        _list(what, json)

    @noun.command(name="show")
    def show_one(name: str, /, *, json: Annotated[bool, Flag] = False) -> None:
        _show(what, name, json)

    @noun.command(name="remove")
    def remove_one(name: str, /) -> None:
        _remove(what, name)

    @noun.command(name="test")
    def test_one(name: str, /) -> None:
        _test(what, name)

    for verb in (list_all, show_one, remove_one, test_one):
        action = verb.__name__.partition("_")[0]
        verb.__doc__ = f"{action.capitalize()} {_ARTICLE[action]} {what}.\n\nExample: backups {what} {action}" + (
            "" if action == "list" else " NAME"
        )


_ARTICLE = {"list": "every saved", "show": "a saved", "test": "a saved", "remove": "a saved"}
for _noun, _what in ((source_app, "source"), (destination_app, "destination"), (app_app, "app")):
    _add_verbs(_noun, _what)
