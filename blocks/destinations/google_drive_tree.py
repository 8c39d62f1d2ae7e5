"""What lies in Google Drive below one folder: a folder for each app, and in it a file for each object.

Names are not unique there. So of several files of one name the oldest one is the object, everywhere and for everybody;
of several folders of one app the oldest one takes new objects, and all are read. A listing asks for one folder at a
time: where a query names several parents, Drive leaves results out without saying so (rclone's issues 3114, 9810).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import Any, Self

from blocks.destinations.google_drive_api import DriveApi
from vault.errors import AlreadyExists, DestinationError, NotFound
from vault.store import NAME, StoredObject

FOLDER = "application/vnd.google-apps.folder"
FIELDS = "id,name,mimeType,size,createdTime,modifiedTime,sha256Checksum,md5Checksum,trashed,parents"
PROPERTY = "prefectBackups"
"""The property, private to the OAuth client, by which we know our own root folder and unfinished files."""
_ROOT_FIELDS = "id,name,mimeType,trashed,driveId"
_PAGE = "1000"
_IDS = "20"
_ALL_DRIVES = {"supportsAllDrives": "true"}


@dataclass(frozen=True)
class DriveFile:
    """A file as Drive describes it."""

    id: str
    name: str
    kind: str
    size: int
    created: datetime
    modified: datetime
    sha256: str | None
    md5: str | None
    trashed: bool
    parents: tuple[str, ...]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """From Drive's JSON; ``DestinationError`` where something that we need is missing."""
        try:
            return cls(
                str(document["id"]),
                str(document["name"]),
                str(document.get("mimeType", "")),
                int(document.get("size", 0)),  # a folder has none
                datetime.fromisoformat(document["createdTime"]),
                datetime.fromisoformat(document["modifiedTime"]),
                document.get("sha256Checksum"),
                document.get("md5Checksum"),
                bool(document.get("trashed", False)),
                tuple(document.get("parents", ())),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DestinationError("Google Drive describes a file in a way that cannot be understood") from error

    @property
    def has_content(self) -> bool:
        """Whether it is a file with bytes of its own: no folder, no shortcut, no document of Google's."""
        return not self.kind.startswith("application/vnd.google-apps.")

    @property
    def age(self) -> tuple[datetime, str]:
        """Sorts the oldest first, in one order for everybody."""
        return self.created, self.id

    def stored(self, key: str) -> StoredObject:
        """As *key*."""
        return StoredObject(key, self.size, self.modified)


@dataclass
class Tree:
    """The folder *root*, in Shared Drive *drive* or, where that is empty, in a My Drive."""

    api: DriveApi
    root: str
    drive: str
    folders: dict[str, list[str]] = field(default_factory=dict)
    """The folders of each app that were seen last; the first one takes what is new."""
    known: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Id and size of files by key: what was listed or written is read without being looked up by its name."""
    _made: dict[str, str] = field(default_factory=dict)  # the folder that we made ourselves, by app
    _making: Lock = field(default_factory=Lock)
    _unused: list[str] = field(default_factory=list)

    # -- files by id

    def get(self, file_id: str) -> DriveFile:
        """The file; ``NotFound`` where it is gone, or in the bin."""
        found = self.api.call("GET", f"files/{file_id}", {"fields": FIELDS, **_ALL_DRIVES})
        file = DriveFile.of(found)
        if file.trashed:
            raise NotFound(f"{self.api.location}: {file.name} is in the bin")
        return file

    def rename(self, file: DriveFile, name: str) -> DriveFile:
        """Give *file* its final *name*, by which it is no unfinished one any more."""
        body = {"name": name, "appProperties": {PROPERTY: None}}
        return DriveFile.of(self.api.call("PATCH", f"files/{file.id}", {"fields": FIELDS, **_ALL_DRIVES}, body))

    def delete(self, file_id: str) -> None:
        """For good, past the bin; it is no error when it is gone already."""
        with suppress(NotFound):
            self.api.call("DELETE", f"files/{file_id}", _ALL_DRIVES)

    def new_id(self) -> str:
        """An id for a new file: with it, what is sent twice since an answer was lost makes no second one."""
        while True:
            with suppress(IndexError):
                return self._unused.pop()
            answer = self.api.call("GET", "files/generateIds", {"count": _IDS, "space": "drive", "type": "files"})
            self._unused += answer["ids"]

    # -- files by name

    def query(self, query: str) -> Iterator[DriveFile]:
        """All that fits *query* and is not in the bin, page by page; it breaks off with an error, never silently."""
        params = {
            "q": f"{query} and trashed = false",
            "pageSize": _PAGE,
            "fields": f"nextPageToken,incompleteSearch,files({FIELDS})",
            "includeItemsFromAllDrives": "true",
            **_ALL_DRIVES,
            **({"corpora": "drive", "driveId": self.drive} if self.drive else {"corpora": "user"}),
        }
        while True:
            answer = self.api.call("GET", "files", params)
            if answer.get("incompleteSearch"):
                raise DestinationError(f"{self.api.location}: Google did not search all of it, so the list is no list")
            yield from map(DriveFile.of, answer.get("files", ()))
            if not (token := answer.get("nextPageToken")):
                return
            params["pageToken"] = token

    def files(self, folder: str) -> Iterator[DriveFile]:
        """Every file in *folder*."""
        found = self.query(f"'{folder}' in parents and mimeType != '{FOLDER}'")
        return (file for file in found if file.has_content)

    def named(self, app: str, name: str) -> list[DriveFile]:
        """The files of *app* with that *name*, the object first."""
        known = self.folders.get(app)
        found = self._named_in(known, name) if known else []
        if not found:
            latest = self.folders_of(app)
            found = self._named_in(latest, name) if latest != known else []
        return found

    def _named_in(self, folders: list[str], name: str) -> list[DriveFile]:
        found = {}
        for folder in folders:
            with suppress(NotFound):  # the folder was deleted: then the file is too
                for file in self.query(f"name = '{name}' and '{folder}' in parents and mimeType != '{FOLDER}'"):
                    if file.name == name and file.has_content:  # Drive compares without regard to case
                        found[file.id] = file
        return sorted(found.values(), key=lambda file: file.age)

    # -- folders

    def apps(self) -> dict[str, list[str]]:
        """The folders of every app."""
        found: dict[str, list[DriveFile]] = {app: [] for app in self._made}
        for folder in self._folders(""):
            if NAME.fullmatch(folder.name):
                found.setdefault(folder.name, []).append(folder)
        self.folders = {app: self._ids(app, folders) for app, folders in found.items()}
        return self.folders

    def folders_of(self, app: str) -> list[str]:
        """The folders of *app*, as Drive has them now."""
        found = [folder for folder in self._folders(f"name = '{app}' and ") if folder.name == app]
        self.folders[app] = self._ids(app, found)
        return self.folders[app]

    def folder_for(self, app: str) -> str:
        """The folder that takes what is new of *app*; made where there is none. Two who make it agree on one."""
        with self._making:
            if not (self.folders.get(app) or self.folders_of(app)):
                self._made[app] = self.make_folder(app, self.root, {})
                self.folders_of(app)
            return self.folders[app][0]

    def _folders(self, condition: str) -> list[DriveFile]:
        """The folders in the root that fit; where there are none, the root itself has to be there."""
        found: list[DriveFile] = []
        with suppress(NotFound):  # so Drive says when it cannot find the parent
            found += self.query(f"{condition}'{self.root}' in parents and mimeType = '{FOLDER}'")
        if not found:
            self.check_root()
        return found

    def _ids(self, app: str, found: list[DriveFile]) -> list[str]:
        """The folders that were found, and the one that we made, which a list may not have yet (T14)."""
        made = self._made.get(app)
        if made is not None and made not in {folder.id for folder in found}:
            try:
                found = [*found, self.get(made)]
            except NotFound:
                del self._made[app]
        return [folder.id for folder in sorted(found, key=lambda folder: folder.age)]

    def make_folder(self, name: str, parent: str, properties: dict[str, str]) -> str:
        """A new folder's id."""
        made = self.new_id()
        body: dict[str, Any] = {"id": made, "name": name, "mimeType": FOLDER, "appProperties": properties}
        if parent:
            body["parents"] = [parent]
        with suppress(AlreadyExists):  # by an earlier try, whose answer was lost
            self.api.call("POST", "files", {"fields": "id", **_ALL_DRIVES}, body)
        return made

    def check_root(self) -> dict[str, Any]:
        """What Drive says of the root folder; an error where it is gone, in the bin, or no folder (D05)."""
        try:
            found = self.api.call("GET", f"files/{self.root}", {"fields": _ROOT_FIELDS, **_ALL_DRIVES})
        except NotFound as error:
            raise DestinationError(f"{self.api.location} is not there, or not shared with us", error.remedy) from error
        if found.get("mimeType") != FOLDER or found.get("trashed"):
            state = "in the bin" if found.get("trashed") else "no folder"
            raise DestinationError(f"{self.api.location} is {state}", "Restore it from the bin, or give another one.")
        return found
