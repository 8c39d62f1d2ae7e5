"""A directory of a server that is reached by SFTP, as a destination.

An object is written under a temporary name in its own directory, brought to the server's disk where the server can do
that, and renamed without replacing anything. The server is known by its pinned host key. The account needs no shell;
where it has one, the server computes digests itself.
"""

from __future__ import annotations

import io
import logging
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import BinaryIO, ClassVar

from pydantic import Field, HttpUrl, PrivateAttr, field_validator

from blocks.destinations import sftp_messages as ask
from blocks.destinations.base import Destination, Upload
from blocks.destinations.places import GRACE, MARKER, finished_name
from blocks.destinations.probe import step
from blocks.destinations.sftp_client import SftpClient
from blocks.destinations.sftp_connection import Connection, Pool
from blocks.destinations.sftp_errors import translated
from blocks.destinations.sftp_files import SftpReader, open_regular, regular, room, server_time, stored_object
from blocks.destinations.sftp_messages import SftpStatus
from blocks.destinations.sftp_root import Root
from blocks.destinations.sftp_upload import SftpUpload, Target
from blocks.look import DOCUMENTATION_URL, LOGO_URL
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
from blocks.ssh.login import Login, read_host_key
from vault.errors import AccessDenied, DestinationError, NotFound, printable
from vault.store import Digest, StoredObject, check_key, check_prefix, is_key

_log = logging.getLogger(__name__)
# Both read standard input, so that no path is an argument. What they print is exactly this.
_DIGEST = "openssl dgst -sha256 -r < {0} || sha256sum < {0}"
_DIGEST_SAYS = re.compile(rb"([0-9a-f]{64})(?: \*stdin|  -)\n")
_DIGEST_SPEED = 10_000_000  # bytes a second, at least


class SftpDestination(Destination):
    """A directory of a server that is reached by SFTP, to which backups go.

    Attributes:
        host: The server.
        port: Its SSH port.
        user: The account there.
        root: The directory, as an absolute path on the server.
        host_key: The server's public key, by which it is known.
        private_key: A private key that the account accepts.
        passphrase: What opens that key.
        password: The account's password, instead of a key.
        agent: Use the keys of the SSH agent.
        marker: The id of the root's marker file; empty until the directory was prepared.
        connect_timeout: How long to wait for the server.
        idle_timeout: How long to wait for an answer.
        max_runs: How many runs may upload there at once; 0: no limit.
        max_wait: Seconds that a run waits for its turn there, then goes on without it; 0: for as long as it takes.
        bandwidth: Bytes a second that a run sends there and reads from there; 0: no limit.

    Example:
        Load an SFTP destination:
        ```python
        from blocks import SftpDestination

        destination = SftpDestination.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "SFTP Destination"
    _block_type_slug: ClassVar[str | None] = "sftp-destination"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    host: HostName
    port: Port = 22
    user: UserName
    root: str = Field(description="The directory for backups: an absolute path on the server, such as /backups.")
    host_key: HostKey = ""
    private_key: PrivateKey = NO_SECRET
    passphrase: Passphrase = NO_SECRET
    password: Password = NO_SECRET
    agent: Agent = False
    marker: str = Field(
        default="",
        pattern=r"^([0-9a-f]{32})?$",
        description="The id in the directory's marker file, by which another disk is told apart; filled in by itself.",
    )
    connect_timeout: ConnectTimeout = 30.0
    idle_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        description="Seconds in which each answer has to come, whole.",
    )

    _pool: Pool = PrivateAttr()
    _hashes: bool = PrivateAttr(default=True)

    @field_validator("root")
    @classmethod
    def _is_absolute(cls, root: str) -> str:
        root = root.rstrip("/") if root.strip("/") else root
        parts = root.split("/")
        names = parts[1:]
        if parts[0] or not names or not all(names) or {".", ".."} & set(names) or not root.isprintable():
            raise ValueError("must be an absolute path below /, without '..'")
        return root

    def block_initialization(self) -> None:
        """Nothing is connected yet."""
        self._pool = Pool(self._login)

    @property
    def _login(self) -> Login:
        return Login(
            *(self.host, self.port, self.user, self.host_key, self.private_key, self.passphrase),
            *(self.password, self.agent, self.connect_timeout, self.idle_timeout),
        )

    @property
    def location(self) -> str:
        """As a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == 22 else f":{self.port}"
        return printable(f"sftp://{self.user}@{host}{port}{self.root}")

    def shown_host_key(self) -> tuple[str, str]:
        """The host key that the server shows now, and its fingerprint, for a person to compare; nobody logs in."""
        with translated(self.location):
            line = read_host_key(self._login)
        return line, fingerprint(line)

    def prepare(self, adopt: bool = False) -> None:
        """Make the directory where it is missing (not its parents), and claim it with a marker file.

        A directory that holds other things is refused, unless it is to be *adopt*ed, things and all.
        """
        with self._connected() as connection, translated(self.location):
            self.marker = self._root.prepare(connection.sftp, self.marker, adopt)

    def check(self) -> None:
        """As every destination; and nobody else may be able to exchange what lies here (D15)."""
        with step("reach"):
            with self._session(self.location) as sftp:
                root, marker = (sftp.do(ask.lstat(path)) for path in (self.root, f"{self.root}/{MARKER}"))
            if root.mode is not None and root.mode & stat.S_IWOTH:
                raise AccessDenied(
                    f"everybody on the server may write to {self.location}",
                    f"Take that right away: chmod o-w {shlex.quote(self.root)}",
                )
        if root.uid not in (None, 0, marker.uid):
            _log.warning("%s belongs to user %d there, who can remove backups", self.location, root.uid)
        super().check()
        with self._session(self.location) as sftp:
            sftp.all(ask.remove_directory(self._root.directory("probe")))

    def _begin(self, key: str, resume: str | None) -> Upload:
        """Begin *key*, or go on with *resume*; ``NotFound`` when nothing is left of that."""
        app, _ = check_key(key).split("/")
        target = Target(self._what(key), key, self._root.directory(app))
        connection = self._take(target.what)
        try:
            with translated(target.what, missing=NotFound, room=lambda: room(connection.sftp, self.root)):
                self._root.check(connection.sftp, self.marker)
                if resume is not None:
                    self._root.enter(connection.sftp, app)
                    return SftpUpload.resume(target, self._pool, connection, resume)
                begin = partial(SftpUpload.begin, target, self._pool, connection)
                return self._root.begin(connection.sftp, app, begin)
        except BaseException:
            self._pool.give(connection)
            raise

    @contextmanager
    def _read(self, key: str, offset: int) -> Iterator[BinaryIO]:
        """The bytes of *key* from *offset* on."""
        what = self._what(check_key(key))
        with self._connected(what) as connection:
            sftp = connection.sftp
            with translated(what, missing=NotFound):
                path, found = self._root.find(sftp, self.marker, key)
                regular(found, what)
                opened = open_regular(sftp, path, ask.FOR_READING, what)
            with io.BufferedReader(SftpReader(sftp, opened, offset, what), 64 * 1024) as reader:
                yield reader

    def stat(self, key: str) -> StoredObject:
        """Size and time of *key*."""
        what = self._what(check_key(key))
        with self._connected(what) as connection, translated(what, missing=NotFound):
            return self._find(connection.sftp, key)[1]

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below *prefix*, read to the end before the first is given out: one stream for each app."""
        app = check_prefix(prefix).removesuffix("/")
        with self._session(self.location) as sftp:
            apps = [app] if app else self._root.apps(sftp)
            return iter([found for name in apps for found in self._root.objects(sftp, name)])

    def remove(self, key: str) -> None:
        """Remove *key*."""
        what = self._what(check_key(key))
        with self._connected(what) as connection, translated(what):
            try:
                path, _ = self._root.find(connection.sftp, self.marker, key)
                connection.sftp.do(ask.remove(path))
            except SftpStatus as status:
                if status.code != ask.NO_SUCH_FILE:
                    raise

    def digest(self, key: str) -> Digest | None:
        """The SHA-256 that the server computes, where the account may run a command there; else None."""
        what = self._what(check_key(key))
        if not self._hashes:
            return None
        with self._connected(what) as connection:
            with translated(what, missing=NotFound):
                path, stored = self._find(connection.sftp, key)
            said = connection.run(_DIGEST.format(shlex.quote(path)), self.idle_timeout + stored.size / _DIGEST_SPEED)
        found = _DIGEST_SAYS.fullmatch(said or b"")
        self._hashes = found is not None  # not asked again
        return Digest("sha256", found[1].decode()) if found else None

    def free_space(self) -> int | None:
        """Bytes that the account may still write; None where the server does not say."""
        with self._session(self.location) as sftp:
            found = room(sftp, self.root)
        return None if found is None else found.free

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Remove unfinished uploads that nobody has written to for 24 hours, by the server's clock where it has one."""
        removed: list[str] = []
        with self._session(self.location) as sftp:
            for app in self._root.apps(sftp):
                path = self._root.directory(app)
                unfinished = [
                    (name, found.modified)
                    for name, found in sftp.scan(path)
                    if found.is_file and found.mtime and is_key(f"{app}/{finished_name(name) or ''}")
                ]
                before = ((unfinished and server_time(sftp, path)) or now) - GRACE
                for name, modified in unfinished:
                    if modified < before and not isinstance(sftp.all(ask.remove(f"{path}/{name}"))[0], SftpStatus):
                        removed.append(f"{app}/{name}")
        return tuple(removed)

    def _find(self, sftp: SftpClient, key: str) -> tuple[str, StoredObject]:
        path, found = self._root.find(sftp, self.marker, key)
        return path, stored_object(sftp, key, path, found, self._what(key))

    @property
    def readers(self) -> int:
        """Each has a connection of its own."""
        return 4

    @property
    def _root(self) -> Root:
        return Root(self.location, self.root)

    def _what(self, key: str) -> str:
        return f"{key} at {self.location}"

    def _take(self, what: str) -> Connection:
        with translated(what):
            return self._pool.take()

    @contextmanager
    def _connected(self, what: str = "") -> Iterator[Connection]:
        connection = self._take(what or self.location)
        try:
            yield connection
        finally:
            self._pool.give(connection)

    @contextmanager
    def _session(self, what: str, missing: type[DestinationError] = DestinationError) -> Iterator[SftpClient]:
        """A session in which the root has just been found to be the one that was prepared."""
        with self._connected(what) as connection, translated(what, missing=missing):
            self._root.check(connection.sftp, self.marker)
            yield connection.sftp
