"""A server that is reached by SSH: tools run there as on this machine, see ``Host``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePath
from typing import ClassVar, Literal

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, field_validator

from blocks.framed import completed
from blocks.held import held_directory
from blocks.host import Priority, RunningTool, WithPriority
from blocks.loading import load
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.ssh.errors import PROBLEMS, Refusal, reason, trouble
from blocks.ssh.fields import (
    NO_SECRET,
    Agent,
    ConnectTimeout,
    HostKey,
    HostName,
    Passphrase,
    Password,
    Port,
    PrivateKey,
    UserName,
)
from blocks.ssh.keys import fingerprint
from blocks.ssh.links import Links, links_to
from blocks.ssh.login import Login, read_host_key
from blocks.ssh.shell import Compressor, command_line
from blocks.ssh.tool import WINDOW, RemoteTool, new_mark
from blocks.ssh.travel import choose, expanded
from blocks.turns import Pause, drop_limit, set_limit, turn
from vault.errors import BackupError, IncompleteDump, SourceError, SourceUnavailable, SpoolError, printable
from vault.process import Command, Completed, living
from vault.store import NAME_PATTERN

_SMALL = 256 * 1024  # bytes under way to or from a tool that says little
_CHECK = """
for tool in base64 dd env mktemp readlink; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
[ "$(printf ok | dd bs=2 count=1 iflag=fullblock 2>/dev/null)" = ok ] || { echo 'dd is not that of GNU' >&2; exit 1; }
uname -sr
"""
_GLOB = 'IFS=; for path in $1; do [ -e "$path" ] && printf \'%s\\0\' "$path"; done; :'
_WHICH = """
case $1 in
    */*) [ -f "$1" ] && [ -x "$1" ] && printf '%s' "$1" ;;
    *) IFS=:; for place in $PATH; do
           [ -f "$place/$1" ] && [ -x "$place/$1" ] && { printf '%s' "$place/$1"; exit; }
       done ;;
esac
:
"""
_TAKE = 'umask 077; set -C; cat >"$1" && wc -c <"$1"'


class SshServer(Block, WithPriority):
    """
    A server that is reached by SSH: its databases and directories are backed up by tools that run there.

    The account needs a shell, coreutils, and the right to read what is backed up; nothing is installed.

    Attributes:
        host: The server.
        port: Its SSH port.
        user: The account there.
        host_key: The server's public key, by which it is known.
        private_key: A private key that the account accepts.
        passphrase: What opens that key.
        password: The account's password, instead of a key.
        agent: Use the keys of the SSH agent.
        jump: The saved server through which this one is reached, as ssh-server/name.
        compress_at: Where what travels is compressed.
        max_runs: How many dumps may run there at once.
        priority: Whether tools that read give way to others.
        temp_directory: Where private temporary files go, for instance the copy of an SQLite database.
        connect_timeout: How long to wait for the server.
        idle_timeout: How long what was sent may stay unacknowledged.

    Example:
        Load a server and see what it runs:
        ```python
        from blocks import SshServer
        from vault.process import Command

        server = SshServer.load("BLOCK_NAME")
        server.run(Command(("uname", "-a"))).stdout
        ```
    """

    _block_type_name: ClassVar[str | None] = "SSH Server"
    _block_type_slug: ClassVar[str | None] = "ssh-server"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL

    host: HostName
    port: Port = 22
    user: UserName
    host_key: HostKey = ""
    private_key: PrivateKey = NO_SECRET
    passphrase: Passphrase = NO_SECRET
    password: Password = NO_SECRET
    agent: Agent = False
    jump: str = Field(
        default="",
        pattern=rf"^(ssh-server/{NAME_PATTERN[1:-1]})?$",
        description="The saved server through which this one is reached, as ssh-server/name; empty: none.",
    )
    compress_at: Literal["auto", "source", "worker"] = Field(
        default="auto",
        description="Where a dump is compressed for its way: at the source (zstd or gzip there), or not at all"
        " (the worker compresses it for the destination); auto measures the way, once.",
    )
    max_runs: int = Field(default=2, ge=1, le=100, description="How many dumps may run on the server at once.")
    priority: Priority = "normal"
    temp_directory: str = Field(
        default="",
        pattern=r"^(/[^\x00]*)?$",
        description="Directory on the server for private temporary files; empty for its own ($TMPDIR, /var/tmp).",
    )
    connect_timeout: ConnectTimeout = 30.0
    idle_timeout: float = Field(
        default=60.0, gt=0, le=3600, description="Seconds in which what is sent has to be acknowledged."
    )

    @field_validator("temp_directory")
    @classmethod
    def _is_plain(cls, path: str) -> str:
        if ".." in PurePath(path).parts:
            raise ValueError("must be an absolute path without '..'")
        return path

    @property
    def location(self) -> str:
        """As a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == 22 else f":{self.port}"
        return printable(f"ssh://{self.user}@{host}{port}")

    @property
    def login(self) -> Login:
        """Where to, as whom, and through what."""
        jump = load(self.jump, SshServer).login if self.jump else None
        return Login(
            *(self.host, self.port, self.user, self.host_key, self.private_key, self.passphrase),
            *(self.password, self.agent, self.connect_timeout, self.idle_timeout, "server", jump),
        )

    def shown_host_key(self) -> tuple[str, str]:
        """The host key that the server shows now, and its fingerprint, for a person to compare; nobody logs in."""
        with _translated(self.location):
            line = read_host_key(self.login)
        return line, fingerprint(line)

    def check(self) -> str:
        """It is the right one, lets us in, and has what we need to run tools there. Returns its system."""
        said = self.run(Command(("sh", "-c", _CHECK), idle_timeout=self.connect_timeout)).stdout
        return printable(said.decode(errors="replace").strip())

    @property
    def limit(self) -> str:
        """The name of Prefect's global concurrency limit for dumps on it; empty while it is not saved."""
        return f"backups-server-{self._block_document_name}" if self._block_document_name else ""

    def turn(
        self, waiting: Callable[[], None] = lambda: None, pause: Pause = time.sleep
    ) -> AbstractContextManager[None]:
        """See ``Host.turn``: one of those that Prefect gives, where it has a limit."""
        return turn([self.limit], waiting, pause)

    def set_limit(self) -> None:
        """Have Prefect let ``max_runs`` dumps run on it at once."""
        set_limit(self.limit, self.max_runs)

    def drop_limit(self) -> None:
        """Have Prefect forget that limit."""
        drop_limit(self.limit)

    # -- tools

    def run(self, command: Command, input: bytes = b"") -> Completed:
        """See ``Host.run``."""
        with self._running(command, fed=bool(input), read=True, window=_SMALL) as tool:
            return completed(tool, tool.input, input)

    @contextmanager
    def stream(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.stream``. What travels may be compressed on its way; who reads does not see it."""
        compressor = choose(self.compress_at, self, self._links)
        with self._running(command, fed=False, read=True, window=WINDOW, compressor=compressor) as tool:
            if compressor is not None:
                tool.stdout = expanded(tool.stdout, compressor, command.name)
            yield tool
            if tool.stdout.read(1):
                raise IncompleteDump(f"the output of {command.name} was not read to its end")
            tool.finish()

    @contextmanager
    def feed(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.feed``."""
        with self._running(command, fed=True, read=False, window=_SMALL) as tool:
            yield tool
            tool.stdin.close()
            tool.finish()

    @contextmanager
    def session(self, command: Command) -> Iterator[RunningTool]:
        """See ``Host.session``."""
        with self._running(command, fed=True, read=True, window=_SMALL) as tool:
            yield tool
            tool.stdin.close()
            tool.finish()

    def which(self, tool: str) -> str | None:
        """See ``Host.which``."""
        return self._ask(_WHICH, tool) or None

    def glob(self, pattern: str) -> list[str]:
        """See ``Host.glob``."""
        return sorted(self._ask(_GLOB, pattern).split("\0")[:-1])

    def private_directory(self) -> AbstractContextManager[PurePath]:
        """See ``Host.private_directory``. A shell there holds it, and removes it when it hears no more of us."""
        return held_directory(self, "prefect-backups.", self.temp_directory)

    @contextmanager
    def secret_file(self, text: str) -> Iterator[str]:
        """See ``Host.secret_file``. The text travels on the tool's input: no command line ever holds it."""
        with self.private_directory() as directory:
            path, data = f"{directory}/secret", text.encode()
            written = self.run(Command(("sh", "-c", _TAKE, "sh", path), secrets=(text,)), data).stdout
            if int(written) != len(data):
                raise SpoolError(f"{directory} on {self.location} took {int(written)} of {len(data)} bytes of a secret")
            yield path

    def _ask(self, script: str, *arguments: str) -> str:
        done = self.run(Command(("sh", "-c", script, "sh", *arguments), idle_timeout=self.connect_timeout))
        return done.stdout.decode(errors="surrogateescape")

    @property
    def _links(self) -> Links:
        return links_to(self.login)

    @contextmanager
    def _running(
        self, command: Command, *, fed: bool, read: bool, window: int, compressor: Compressor | None = None
    ) -> Iterator[RemoteTool]:
        mark, command = new_mark(), self.own(command)
        line = command_line(command, mark, fed=fed, read=read, compressor=compressor)
        session = self._links.session(window)
        with _translated(self.location):
            channel, link = session.__enter__()
            try:
                channel.exec_command(line)
                tool = RemoteTool(command, channel, link, self.location, mark)
            except BaseException as error:
                session.__exit__(type(error), error, error.__traceback__)
                raise
        with _ending(session), living(tool):
            yield tool


@contextmanager
def _ending(session: AbstractContextManager[object]) -> Iterator[None]:
    """The session that was entered already ends here."""
    try:
        yield
    finally:
        session.__exit__(None, None, None)


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """The one place where what goes wrong on the way to a server becomes an error of ours."""
    try:
        yield
    except BackupError:
        raise
    except Refusal as error:
        raise SourceError(f"{where}: {error}", error.remedy) from error
    except PROBLEMS as error:
        found = trouble(error)
        kind = SourceUnavailable if found.passes else SourceError
        raise kind(f"{where}: {reason(error)}", found.value) from error
