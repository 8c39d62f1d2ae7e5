"""Which of the installed tools fit a server of MySQL or MariaDB, and with which options."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from blocks.host import Host
from vault.errors import SourceError, printable
from vault.process import Command

MARIADB, MYSQL = "MariaDB", "MySQL"
DIRECTORIES = ("/usr/local/mysql/bin", "/usr/local/mariadb/bin")

Version = tuple[int, int, int]

_COMMON = (
    *("--default-character-set=utf8mb4", "--max-allowed-packet=1G"),
    *("--opt", "--single-transaction", "--quick", "--routines", "--triggers", "--events", "--hex-blob"),
    # Comments hold the proof. LOCK TABLES in a script stops defaults that use a sequence from being restored.
    *("--comments", "--no-tablespaces", "--skip-add-locks", "--skip-lock-tables"),
)
# What only some tools know: whose, from which version on, and the option.
_DIFFERENCES: tuple[tuple[str, Version, str], ...] = (
    (MYSQL, (5, 6, 9), "--set-gtid-purged=OFF"),
    (MYSQL, (8, 0, 2), "--column-statistics=0"),
)
_HISTORY_SINCE: Version = (10, 11, 0)
# A server from that version on needs a tool of its own kind that is as new as that (S11).
_NEEDS: tuple[tuple[str, Version, Version], ...] = (
    (MARIADB, (10, 3, 0), (10, 3, 0)),
    (MYSQL, (8, 0, 0), (8, 0, 0)),
    (MYSQL, (9, 0, 0), (8, 0, 0)),
)
_SAID_VERSION = re.compile(r"(?:Distrib|from|Ver) (\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Server:
    """What the server says it is."""

    flavour: str
    version: Version

    def __str__(self) -> str:
        return f"{self.flavour} {shown(self.version)}"


@dataclass(frozen=True)
class Installation:
    """One installed pair of tools: the client, and the one that dumps."""

    flavour: str
    version: Version
    client: str
    dump: str

    def __str__(self) -> str:
        return f"{os.path.basename(self.dump)} {shown(self.version)}"

    def dump_options(self, server: Server) -> tuple[str, ...]:
        """The options with which it dumps all of a database of *server*."""
        own = (option for flavour, since, option in _DIFFERENCES if self.flavour == flavour and self.version >= since)
        both = self.flavour == server.flavour == MARIADB and min(self.version, server.version) >= _HISTORY_SINCE
        return (*_COMMON, *own, *(("--dump-history",) if both else ()))


def shown(version: Version) -> str:
    """*version* as text."""
    return ".".join(map(str, version))


def parse_server(text: str) -> Server:
    """From ``VERSION()``: ``10.11.19-MariaDB-log`` or ``8.4.2``; old MariaDB puts ``5.5.5-`` in front for replicas."""
    match = re.match(r"(?:5\.5\.5-(?=.*MariaDB))?(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise SourceError(f"{printable(text)[:80]!r} is not the version of MySQL or MariaDB")
    return Server(MARIADB if "mariadb" in text.lower() else MYSQL, (int(match[1]), int(match[2]), int(match[3])))


def for_dump(installed: tuple[Installation, ...], server: Server) -> Installation:
    """The tools that fit *server* best: of its kind, and the oldest that is as new as it (S11)."""
    own = [tool for tool in installed if tool.flavour == server.flavour]
    needed = max(
        (least for kind, since, least in _NEEDS if kind == server.flavour and server.version >= since),
        default=(0, 0, 0),
    )
    fitting = [tool for tool in own if tool.version[:2] >= server.version[:2]]
    if fitting:
        return fitting[0]
    usable = [tool for tool in own if tool.version >= needed] or [t for t in installed if t not in own]
    if usable:
        return usable[-1]
    there = ", ".join(f"{tool} in {os.path.dirname(tool.dump) or 'PATH'}" for tool in installed)
    raise SourceError(
        f"the server is {server}: its dump tool has to be {shown(needed)} or newer, and only {there} is installed",
        f"Install the client of {server.flavour} {server.version[0]}.{server.version[1]}, or name its bin_dir.",
    )


def for_load(installed: tuple[Installation, ...], server: Server) -> Installation:
    """The newest tools of the kind of *server*, else the newest."""
    return max(installed, key=lambda tool: (tool.flavour == server.flavour, tool.version))


def find_installations(server: Host, bin_dir: str = "") -> tuple[Installation, ...]:
    """The installed tools, oldest first; only those of *bin_dir* where it is given."""
    places = [bin_dir] if bin_dir else ["", *(place for pattern in DIRECTORIES for place in server.glob(pattern))]
    found: dict[tuple[str, Version], Installation] = {}
    for place in places:
        for client, dump in (("mariadb", "mariadb-dump"), ("mysql", "mysqldump")):
            paths = [server.which(os.path.join(place, name)) for name in (client, dump)]
            if paths[0] and paths[1]:
                one = _installation(server, paths[0], paths[1])
                found.setdefault((one.flavour, one.version), one)
    if not found:
        where = bin_dir or f"PATH, {', '.join(DIRECTORIES)}"
        raise SourceError(
            f"neither mariadb and mariadb-dump nor mysql and mysqldump are installed (looked in {printable(where)})",
            "Install them (Debian, Ubuntu: apt-get install mariadb-client; for MySQL 8 and 9 mysql-client).",
        )
    return tuple(sorted(found.values(), key=lambda one: one.version))


def _installation(server: Host, client: str, dump: str) -> Installation:
    said = server.run(Command((dump, "--version"), idle_timeout=30)).stdout.decode(errors="replace")
    match = _SAID_VERSION.search(said)
    if match is None:
        raise SourceError(f"{dump} does not say its version: {printable(said)[:80]!r}")
    flavour = MARIADB if "MariaDB" in said else MYSQL
    return Installation(flavour, (int(match[1]), int(match[2]), int(match[3])), client, dump)
