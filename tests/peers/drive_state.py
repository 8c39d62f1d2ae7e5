"""What the tests' Google Drive holds, by which rules it gives and takes, and what it was told to do wrong."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tests.peers.drive_accounts import Account, Accounts
from tests.peers.drive_rules import Query, Refused, check_file, check_parameters, parse_fields, selected

FOLDER = "application/vnd.google-apps.folder"
Operation = Literal[
    *("token", "ids", "list", "create", "get", "media", "update", "delete", "about"),
    *("start", "chunk", "status", "cancel"),
]


@dataclass
class Node:
    """A file or a folder."""

    id: str
    name: str
    kind: str
    parents: list[str]
    owner: str
    drive: str = ""
    content: bytes | bytearray | None = None
    trashed: bool = False
    applications: set[str] = field(default_factory=set)
    shared_with: set[str] = field(default_factory=set)
    properties: dict[str, dict[str, str]] = field(default_factory=dict)
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    _digests: tuple[str, str] | None = None

    @property
    def digests(self) -> tuple[str, str]:
        """SHA-256 and MD5 of the content, computed when they are first asked for."""
        if self._digests is None:
            data = self.content or b""
            self._digests = hashlib.sha256(data).hexdigest(), hashlib.md5(data, usedforsecurity=False).hexdigest()
        return self._digests

    def damage(self, content: bytes) -> None:
        """What lies there rots, and the server takes it for what it is."""
        self.content, self._digests = content, None


@dataclass
class Session:
    """A resumable upload."""

    id: str
    account: Account
    metadata: dict[str, Any]
    fields: str
    data: bytearray = field(default_factory=bytearray)
    node: Node | None = None
    over: int = 0
    """The status that it answers with, when it is cancelled or has expired."""


@dataclass
class Fault:
    """What goes wrong with *operation*: after so many good calls, so many times."""

    operation: Operation
    status: int = 0
    reason: str = "backendError"
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1
    after: int = 0
    cut: Literal["", "before", "after"] = ""
    """The connection ends without an answer, before or after the request took effect."""
    keep: int | None = None
    """So many bytes of a chunk are kept, at most."""
    drop: int = 0
    """So many bytes at the end of a file are not stored, or not sent."""
    lie: bool = False
    """A download that is short says so in its Content-Length."""
    flip: bool = False
    """One bit of a download is another one."""
    drip: float = 0.0
    """A download comes byte by byte, so many seconds apart."""
    hang: bool = False
    """It does not answer as long as the server lives."""
    incomplete: bool = False
    hide: bool = False
    """A list without what was made last."""


class Drive:
    """What the server holds, and how it fails."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.nodes: dict[str, Node] = {}
        self.sessions: dict[str, Session] = {}
        self.generated: set[str] = set()
        self.managers: dict[str, dict[str, str]] = {}
        """Shared Drives: the role of each member."""
        self.limits: dict[str, int] = {}
        """Quota by user, where there is one."""
        self.page = 1000
        """How many files a page has at most: Google may return fewer than were asked for."""
        self.checksums: bool | Literal["md5"] = True
        self.faults: list[Fault] = []
        self.calls: list[tuple[Operation, dict[str, str]]] = []
        self.lock = threading.RLock()
        self.closing = threading.Event()

    # -- what the tests arrange and look at

    def fail(self, operation: Operation, **how: Any) -> Fault:
        """From now on *operation* fails so."""
        fault = Fault(operation, **how)
        with self.lock:
            self.faults.append(fault)
        return fault

    def count(self, operation: Operation) -> int:
        """How many calls came."""
        return sum(1 for done, _ in self.calls if done == operation)

    def shared_drive(self, **roles: str) -> str:
        """A new Shared Drive; *roles* of its members by address."""
        drive = f"0A{secrets.token_hex(8)}PVA"
        self.nodes[drive] = Node(drive, "Backups", FOLDER, [], "", drive=drive)
        self.managers[drive] = roles
        return drive

    def add(self, name: str, parent: str, owner: str = "", content: bytes | None = None, **more: Any) -> Node:
        """A file, or without *content* a folder, that somebody else makes, past every rule."""
        drive = self.nodes[parent].drive if parent in self.nodes else ""
        kind = FOLDER if content is None else "text/plain"
        node = Node(f"1{secrets.token_hex(16)}", name, kind, [parent], owner, drive, content, **more)
        self.nodes[node.id] = node
        return node

    def path(self, node: Node) -> list[Node]:
        """The folders above *node*, the nearest first."""
        above = []
        while node.parents and node.parents[0] in self.nodes:
            node = self.nodes[node.parents[0]]
            above.append(node)
        return above

    def expire_tokens(self) -> None:
        """Every access token that was given out has run out."""
        self.accounts.tokens.clear()

    def expire_sessions(self, status: int = 404) -> None:
        """Every unfinished session is over."""
        for session in self.sessions.values():
            session.over = status

    # -- rules

    def home(self, user: str) -> str:
        """The id of a user's My Drive."""
        root = f"0A{hashlib.sha256(user.encode()).hexdigest()[:14]}PVA"
        with self.lock:
            self.nodes.setdefault(root, Node(root, "My Drive", FOLDER, [], user))
        return root

    def sees(self, account: Account, node: Node, all_drives: bool) -> bool:
        """Whether *account* sees *node*, as a request that does or does not ask for Shared Drives."""
        line = [node, *self.path(node)]
        if node.drive and (not all_drives or account.user not in self.managers[node.drive]):
            return False
        if not node.drive and not any(account.user in ({n.owner} | n.shared_with) for n in line):
            return False
        given = account.is_service and (account.user in node.shared_with or node.id in self.managers)
        return account.scope == "drive" or account.application in node.applications or given

    def find(self, account: Account, node_id: str, all_drives: bool) -> Node:
        """The node; 404 for what *account* does not see."""
        node = self.nodes.get(self.home(account.user) if node_id == "root" else node_id)
        if node is None or not self.sees(account, node, all_drives):
            raise Refused(404, "notFound", f"File not found: {node_id}.")
        return node

    def parents(self, account: Account, body: Mapping[str, Any], all_drives: bool) -> list[str]:
        """Where a new node goes."""
        given = body.get("parents", [])
        if len(given) > 1:
            raise Refused(400, "multipleParentsNotSupported", "A file can have one parent only")
        if not given:
            return [self.home(account.user)]
        parent = self.find(account, given[0], all_drives)
        if parent.kind != FOLDER:
            raise Refused(403, "parentNotAFolder", "The specified parent is not a folder.")
        if parent.drive and self.managers[parent.drive][account.user] not in ("organizer", "fileOrganizer", "writer"):
            raise Refused(403, "insufficientFilePermissions", _NOT_ALLOWED)
        return [parent.id]

    def check_id(self, body: Mapping[str, Any]) -> None:
        """An id of the client's own was generated here, and is not in use."""
        if "id" not in body:
            return
        if body["id"] in self.nodes:
            raise Refused(409, "fileIdInUse", "A file already exists with the provided ID.")
        if body["id"] not in self.generated:
            raise Refused(400, "invalid", "The provided file ID is not usable.")

    def check_quota(self, account: Account, drive: str, size: int) -> None:
        """Room for *size* more bytes of *account*'s."""
        if drive or account.user not in self.limits:
            return
        if account.is_service and self.limits[account.user] == 0:
            raise Refused(
                *(403, "storageQuotaExceeded"),
                "Service Accounts do not have storage quota. Leverage shared drives"
                " (https://developers.google.com/workspace/drive/api/guides/about-shareddrives), or use OAuth"
                " delegation (http://support.google.com/a/answer/7281227) instead.",
            )
        if self.usage(account.user) + size > self.limits[account.user]:
            raise Refused(403, "storageQuotaExceeded", "The user's Drive storage quota has been exceeded.")

    def usage(self, user: str) -> int:
        """Bytes that *user* owns, in the bin or not."""
        return sum(len(n.content or b"") for n in self.nodes.values() if n.owner == user and not n.drive)

    def new_node(
        self, account: Account, body: Mapping[str, Any], parents: list[str], content: bytearray | None
    ) -> Node:
        """The node that *body* describes; made visible."""
        drive = self.nodes[parents[0]].drive
        node = Node(
            *(body.get("id") or f"1{secrets.token_hex(16)}", body.get("name", "Untitled")),
            *(body.get("mimeType", "application/octet-stream"), parents, "" if drive else account.user, drive, content),
            applications={account.application},
        )
        node.properties[account.application] = dict(body.get("appProperties") or {})
        self.nodes[node.id] = node
        return node

    def document(self, account: Account, node: Node) -> dict[str, Any]:
        """*node* as a resource."""
        found: dict[str, Any] = {
            "kind": "drive#file",
            "id": node.id,
            "name": node.name,
            "mimeType": node.kind,
            "parents": node.parents,
            "trashed": node.trashed or any(folder.trashed for folder in self.path(node)),
            "createdTime": _time(node.created),
            "modifiedTime": _time(node.modified),
            "appProperties": node.properties.get(account.application, {}),
        }
        if node.drive:
            found["driveId"] = node.drive
        if node.content is not None:
            found["size"] = str(len(node.content))
            if self.checksums:
                found["sha256Checksum"], found["md5Checksum"] = node.digests
                if self.checksums == "md5":
                    del found["sha256Checksum"]
        return found

    # -- operations, by name

    def ids(self, account: Account, query: dict[str, str]) -> Any:
        check_parameters("files", "generateIds", query)
        made = [f"1{secrets.token_urlsafe(24)}" for _ in range(int(query.get("count", 10)))]
        self.generated.update(made)
        return {"kind": "drive#generatedIds", "space": "drive", "ids": made}

    def list(self, account: Account, query: dict[str, str], fault: Fault | None) -> Any:
        check_parameters("files", "list", query)
        everywhere = query.get("supportsAllDrives") == query.get("includeItemsFromAllDrives") == "true"
        corpora = query.get("corpora", "user")
        if corpora not in ("user", "drive") or (corpora == "drive") != ("driveId" in query):
            raise Refused(400, "invalidParameter", "corpora and driveId do not fit")
        if corpora == "drive" and not everywhere:
            raise Refused(403, "teamDrivesParameterRequired", "includeItemsFromAllDrives, supportsAllDrives?")
        if corpora == "drive" and account.user not in self.managers.get(query["driveId"], {}):
            raise Refused(404, "notFound", f"Shared drive not found: {query['driveId']}")
        wanted = Query(query.get("q", "trashed = false or trashed = true"), account.application)
        for parent in wanted.parents:
            with self._as_unnamed_parent():
                self.find(account, parent, everywhere)
        found = [n for n in list(self.nodes.values()) if self._is_listed(account, n, query, everywhere, wanted)]
        if fault is not None and fault.hide:
            found = found[:-1]
        return self._paged(account, found, query, fault)

    @contextmanager
    def _as_unnamed_parent(self) -> Iterator[None]:
        try:
            yield
        except Refused as error:
            raise Refused(error.status, error.reason, "File not found: .") from error

    def _is_listed(self, account: Account, node: Node, query: dict[str, str], everywhere: bool, wanted: Query) -> bool:
        if not node.parents or not self.sees(account, node, everywhere):
            return False
        if "driveId" in query and node.drive != query["driveId"]:
            return False
        shown = self.document(account, node)
        was, node.trashed = node.trashed, shown["trashed"]
        try:
            return wanted.test(node)
        finally:
            node.trashed = was

    def _paged(self, account: Account, found: list[Node], query: dict[str, str], fault: Fault | None) -> Any:
        selection = parse_fields(query["fields"], "FileList") if "fields" in query else _DEFAULT_LIST
        asked = repr(sorted((name, value) for name, value in query.items() if name != "pageToken"))
        check = hashlib.sha256(asked.encode()).hexdigest()[:16]
        begin = 0
        if "pageToken" in query:
            match = re.fullmatch(r"~!!~(\d+)-([0-9a-f]{16})", query["pageToken"])
            if match is None or match[2] != check:
                raise Refused(400, "invalid", "Invalid Value: pageToken")
            begin = int(match[1])
        end = begin + min(self.page, int(query.get("pageSize", 100)))
        answer = {
            "kind": "drive#fileList",
            "incompleteSearch": fault is not None and fault.incomplete,
            "files": [self.document(account, node) for node in found[begin:end]],
        }
        if end < len(found):
            answer["nextPageToken"] = f"~!!~{end}-{check}"
        return selected(answer, selection)

    def create(self, account: Account, query: dict[str, str], body: dict[str, Any]) -> Any:
        check_parameters("files", "create", query)
        check_file(body, new=True)
        selection = parse_fields(query["fields"], "File") if "fields" in query else _DEFAULT_FILE
        self.check_id(body)
        parents = self.parents(account, body, query.get("supportsAllDrives") == "true")
        content = None if body.get("mimeType") == FOLDER else bytearray()
        return selected(self.document(account, self.new_node(account, body, parents, content)), selection)

    def get(self, account: Account, query: dict[str, str], node_id: str) -> Any:
        check_parameters("files", "get", query)
        selection = parse_fields(query["fields"], "File") if "fields" in query else _DEFAULT_FILE
        node = self.find(account, node_id, query.get("supportsAllDrives") == "true")
        return selected(self.document(account, node), selection)

    def update(self, account: Account, query: dict[str, str], node_id: str, body: dict[str, Any]) -> Any:
        check_parameters("files", "update", query)
        check_file(body, new=False)
        selection = parse_fields(query["fields"], "File") if "fields" in query else _DEFAULT_FILE
        node = self.find(account, node_id, query.get("supportsAllDrives") == "true")
        node.name = body.get("name", node.name)
        node.trashed = body.get("trashed", node.trashed)
        own = node.properties.setdefault(account.application, {})
        own |= body.get("appProperties") or {}
        node.properties[account.application] = {name: value for name, value in own.items() if value is not None}
        node.modified = datetime.now(UTC)
        return selected(self.document(account, node), selection)

    def delete(self, account: Account, query: dict[str, str], node_id: str) -> Any:
        check_parameters("files", "delete", query)
        node = self.find(account, node_id, query.get("supportsAllDrives") == "true")
        manager = node.drive and self.managers[node.drive][account.user] == "organizer"
        if not manager and node.owner != account.user:
            raise Refused(403, "insufficientFilePermissions", _NOT_ALLOWED)
        for gone in [node, *(n for n in self.nodes.values() if node in self.path(n))]:
            del self.nodes[gone.id]
            gone.content = None  # sessions still know the file
        return None

    def about(self, account: Account, query: dict[str, str]) -> Any:
        check_parameters("about", "get", query)
        if "fields" not in query:
            raise Refused(400, "required", "The 'fields' parameter is required for this method.")
        quota = {"usage": str(self.usage(account.user)), "usageInDrive": str(self.usage(account.user))}
        if account.user in self.limits:
            quota["limit"] = str(self.limits[account.user])
        return selected({"storageQuota": quota}, parse_fields(query["fields"], "About"))

    def start(self, account: Account, query: dict[str, str], body: dict[str, Any]) -> Session:
        check_parameters("files", "create", query, upload=True)
        if query.get("uploadType") != "resumable":
            raise Refused(400, "badRequest", "only resumable uploads are imitated")
        check_file(body, new=True)
        parse_fields(query.get("fields", "id"), "File")
        self.check_id(body)
        parents = self.parents(account, body, query.get("supportsAllDrives") == "true")
        self.check_quota(account, self.nodes[parents[0]].drive, 0)
        session = Session(
            f"AP{secrets.token_urlsafe(48)}", account, {**body, "parents": parents}, query.get("fields", "")
        )
        self.sessions[session.id] = session
        return session

    def finish(self, session: Session, drop: int) -> None:
        """The last byte is here: the file is."""
        drive = self.nodes[session.metadata["parents"][0]].drive
        self.check_quota(session.account, drive, len(session.data))
        self.check_id(session.metadata)
        content = session.data[: len(session.data) - drop] if drop else session.data
        session.node = self.new_node(session.account, session.metadata, session.metadata["parents"], content)
        session.data = bytearray()  # the file's alone: a bench fills this many times

    def finished(self, session: Session) -> Any:
        """What a finished upload answers."""
        if session.node is None or session.node.id not in self.nodes:
            raise Refused(404, "notFound", "the file is gone")
        selection = parse_fields(session.fields, "File") if session.fields else _DEFAULT_FILE
        return selected(self.document(session.account, session.node), selection)


_NOT_ALLOWED = "The user does not have sufficient permissions for this file."
_DEFAULT_FILE: Any = {"kind": {}, "id": {}, "name": {}, "mimeType": {}}
_DEFAULT_LIST: Any = {"kind": {}, "incompleteSearch": {}, "nextPageToken": {}, "files": _DEFAULT_FILE}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
