"""``backups server``: the servers on which sources lie, reached by SSH."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from cli.api import prefect_api
from cli.saved import Flag, SecretFile, add_verbs, made, save, update, update_any
from cli.ssh import pinned, refuse_without, ways_in
from vault.command import Priority
from vault.errors import ConfigError
from vault.store import absolute, check_name

if TYPE_CHECKING:
    from blocks.ssh_server import SshServer

CompressAt = Literal["auto", "source", "worker"]

server_app = App(name="server", help="The servers on which sources lie.", version_flags=[])
_add_server = App(name="add", help="Save a server, after a test of it.", version_flags=[])
_update_server = App(
    name="update",
    help="""Change a saved server, after a test of it. What is not given stays as it was, secrets too.

Example: backups server update NAME --OPTION VALUE

The options are those of its kind: see `backups server update ssh --help`.""",
    help_format="plaintext",
    version_flags=[],
)
server_app.command(_add_server)
server_app.command(_update_server)
add_verbs(server_app, "server")


@_update_server.default
def update_by_name(name: str, /, *options: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]) -> None:
    """Change a saved server: its kind is looked up.

    Example: backups server update web1 --port 2222

    Parameters
    ----------
    name
        The name of the server.
    options
        Options of its kind.
    """
    update_any("server", _update_server, name, options)


@_add_server.command(name="ssh")
def add_ssh(
    name: str,
    /,
    *,
    host: str,
    user: str,
    port: int = 22,
    key: Path | None = None,
    passphrase_file: SecretFile = None,
    password: Annotated[bool, Flag] = False,
    password_file: SecretFile = None,
    agent: Annotated[bool, Flag] = False,
    host_key: str = "",
    jump: str = "",
    compress_at: CompressAt = "auto",
    max_runs: int = 2,
    priority: Priority = "normal",
    temp_directory: str = "",
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Save a server that is reached by SSH. Its host key is pinned. Nothing is installed there.

    Example: backups server add ssh web1 --host web1.example.org --user deploy --key ~/.ssh/id_ed25519

    Parameters
    ----------
    name
        The name of the server.
    host
        Its name or address.
    user
        The account there: one with a shell, that may read what is to be backed up.
    port
        The port of its SSH server.
    key
        A file with a private key. Its passphrase is asked for when it has one.
    passphrase_file
        A file with the passphrase, or - for standard input.
    password
        Log in with a password, which is asked for.
    password_file
        A file with that password, or - for standard input.
    agent
        Log in with the keys of the SSH agent.
    host_key
        The server's public key, such as 'ssh-ed25519 AAAA…': pinned without asking.
    jump
        A saved server through which this one is reached.
    compress_at
        Where dumps are compressed for their way: at the source, only at the worker, or as the line's speed says.
    max_runs
        How many dumps may run there at once.
    priority
        low: dumps give way to whatever else wants its processors and disks, but while an app's containers are held.
    temp_directory
        The directory there for private temporary files, instead of $TMPDIR or /var/tmp.
    no_test
        Save it without a test.
    """
    check_name(name, "server")
    given = ways_in(user, key, passphrase_file, password, password_file)
    refuse_without(host, given, agent)
    with prefect_api():
        from blocks.ssh_server import SshServer

        fields = {
            **{"host": host, "port": port, "user": user, "agent": agent, "jump": _reference(jump) or ""},
            **{"compress_at": compress_at, "max_runs": max_runs, "priority": priority},
            **{"temp_directory": temp_directory, **given},
        }
        block = made(SshServer, **fields, host_key=host_key)
        if not block.host_key:
            block = made(SshServer, **fields, host_key=pinned(block))
        save("server", name, block, no_test)


@_update_server.command(name="ssh")
def update_ssh(
    name: str,
    /,
    *,
    host: str | None = None,
    user: str | None = None,
    port: int | None = None,
    key: Path | None = None,
    passphrase_file: SecretFile = None,
    password: Annotated[bool, Flag] = False,
    password_file: SecretFile = None,
    agent: Annotated[bool | None, Parameter(negative="--no-agent")] = None,
    host_key: str | None = None,
    jump: str | None = None,
    compress_at: CompressAt | None = None,
    max_runs: int | None = None,
    priority: Priority | None = None,
    temp_directory: str | None = None,
    no_test: Annotated[bool, Flag] = False,
) -> None:
    """Change how a server is reached and logged in to, or pin its new host key.

    Example: backups server update ssh web1 --host-key 'ssh-ed25519 AAAA…'

    Parameters
    ----------
    name
        The name of the server.
    host
        Its name or address.
    user
        The account there.
    port
        The port of its SSH server.
    key
        A file with a new private key.
    passphrase_file
        A file with the key's passphrase, or - for standard input.
    password
        Log in with a new password, which is asked for.
    password_file
        A file with that password, or - for standard input.
    agent
        Log in with the keys of the SSH agent, or not.
    host_key
        The server's public key, such as 'ssh-ed25519 AAAA…'.
    jump
        A saved server through which this one is reached; '' for none.
    compress_at
        Where dumps are compressed for their way.
    max_runs
        How many dumps may run there at once.
    priority
        Whether dumps give way to others.
    temp_directory
        The directory there for private temporary files.
    no_test
        Save it without a test.
    """
    ways: dict[str, Any] = {**ways_in(user or name, key, passphrase_file, password, password_file)}
    with prefect_api():
        from blocks.ssh_server import SshServer

        changes = {
            **{"host": host, "port": port, "user": user, "agent": agent, "host_key": host_key},
            **{"jump": _reference(jump), "compress_at": compress_at, "max_runs": max_runs},
            **{"priority": priority, "temp_directory": temp_directory, **ways},
        }
        update("server", name, SshServer, changes, no_test)


def _reference(jump: str | None) -> str | None:
    """The saved server *jump*, as a block names it; it has to be there."""
    if not jump:
        return jump
    from blocks.loading import find
    from blocks.servers import SERVERS

    return find(jump, SERVERS, "server")


def server_named(name: str) -> SshServer:
    """The saved server *name*."""
    from blocks.loading import find, load
    from blocks.servers import SERVERS
    from blocks.ssh_server import SshServer

    return load(find(name, SERVERS, "server"), SshServer)


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where a source lies.

    Parameters
    ----------
    server
        The saved server on which it lies, or its tools run; else it is this machine.
    priority
        On this machine: low has the tools that read it give way to whatever else wants processors and disks.
    no_test
        Save it without a test.
    """

    server: str = ""
    priority: Priority | None = None
    no_test: Annotated[bool, Flag] = False

    def fields(self) -> dict[str, Any]:
        """What the block says of it, where that is not this machine as it is."""
        if self.server and self.priority:
            raise ConfigError(
                f"server {self.server} has a priority of its own, for all that lies there",
                f"Change that: backups server update {self.server} --priority {self.priority}",
            )
        if self.server:
            return {"server": server_named(self.server)}
        if self.priority is None:
            return {}
        from blocks.servers import LocalServer

        return {"server": LocalServer(priority=self.priority)}

    def path(self, path: Path) -> str:
        """A path of this machine may be relative to where we are, or to the home directory."""
        if not self.server:
            return absolute(str(path))
        if not path.is_absolute():
            raise ConfigError(f"the path {path} does not say where on {self.server}", "Give it from the root: /srv/…")
        return str(path)
