"""A folder in Google Drive as a destination.

What an account may see there is a matter of its OAuth scope. With ``drive.file``, the default, that is what this app
made itself, or was given: a folder that was shared with a service account is; one that a person made and chose by its
id is not, so with OAuth leave the folder to us. Only the scope ``drive`` sees all that the account sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal, Self

from pydantic import Field, HttpUrl, PrivateAttr, SecretStr, field_validator, model_validator

from blocks.destinations.base import Destination, Upload
from blocks.destinations.google_drive_api import DriveApi
from blocks.destinations.google_drive_auth import key_credentials, key_document, oauth_credentials
from blocks.destinations.google_drive_read import opened
from blocks.destinations.google_drive_tree import FOLDER, PROPERTY, DriveFile, Tree
from blocks.destinations.google_drive_upload import DriveUpload
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from vault.errors import ConfigError, NotFound
from vault.store import PARTIAL_SUFFIX, Digest, StoredObject, check_key, check_prefix, is_key

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

ROOT_NAME = "prefect-backups"
GRACE = timedelta(hours=24)

_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{16}" + re.escape(PARTIAL_SUFFIX))
_OUR_ROOT = f"appProperties has {{ key='{PROPERTY}' and value='root' }} and mimeType = '{FOLDER}'"
_PARTIALS = f"appProperties has {{ key='{PROPERTY}' and value='partial' }}"
_ID = r"^[A-Za-z0-9_-]*$"  # nothing that a query could be broken out of with


class GoogleDriveDestination(Destination):
    """A folder in Google Drive, to which backups go: in a Shared Drive, or in somebody's My Drive.

    A service account has no storage of its own: it writes to a Shared Drive of which it is a Manager (Google lets
    nobody else delete for good), or as a user whom it may impersonate. Without one, authorise an OAuth client.

    Attributes:
        folder_id: The folder's id; empty until one was made.
        shared_drive: The Shared Drive's id, where the folder is in one.
        service_account_key: The key file of a service account.
        impersonate: The user as whom the service account acts.
        client_id: The OAuth client's id, where there is no service account.
        client_secret: The OAuth client's secret.
        refresh_token: What that client was authorised with.
        scope: What the account may see.
        max_runs: How many runs may upload there at once; 0: no limit.
        max_wait: Seconds that a run waits for its turn there, then goes on without it; 0: for as long as it takes.
        bandwidth: Bytes a second that a run sends there and reads from there; 0: no limit.

    Example:
        Load a Google Drive destination:
        ```python
        from blocks import GoogleDriveDestination

        destination = GoogleDriveDestination.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Google Drive Destination"
    _block_type_slug: ClassVar[str | None] = "google-drive-destination"
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    folder_id: str = Field(
        default="",
        pattern=_ID,
        description="The id of the folder for backups, or its address; where it is empty, a folder is made.",
    )
    shared_drive: str = Field(
        default="",
        pattern=_ID,
        description="The id of the Shared Drive in which the folder is; empty for a My Drive.",
    )
    service_account_key: SecretStr = Field(
        default=SecretStr(""),
        description="The JSON key of a service account; empty where OAuth is used.",
    )
    impersonate: str = Field(
        default="",
        description="The mail address of the user as whom the service account acts (domain-wide delegation).",
    )
    client_id: str = Field(
        default="",
        description="The id of the OAuth client, where there is no service account.",
    )
    client_secret: SecretStr = Field(
        default=SecretStr(""),
        description="The secret of the OAuth client.",
    )
    refresh_token: SecretStr = Field(
        default=SecretStr(""),
        description="The refresh token that `backups destination add google-drive --oauth` obtains.",
    )
    scope: Literal["drive.file", "drive"] = Field(
        default="drive.file",
        description="What the account may see: what this app made or was given, or all of the account's Drive.",
    )

    _tree: Tree | None = PrivateAttr(default=None)
    _lock: Lock = PrivateAttr(default_factory=Lock)

    @field_validator("folder_id", "shared_drive", mode="before")
    @classmethod
    def _id_in_address(cls, text: object) -> object:
        """The id, also from what the browser shows: ``https://drive.google.com/drive/folders/ID?…``."""
        found = re.fullmatch(r"https://drive\.google\.com/\S*/folders/([A-Za-z0-9_-]+)(?:[/?#].*)?", str(text).strip())
        return found[1] if found else text

    @model_validator(mode="after")
    def _has_one_account(self) -> Self:
        key, token = self.service_account_key.get_secret_value(), self.refresh_token.get_secret_value()
        if bool(key) == bool(token):
            raise ValueError("give either the key of a service account, or an OAuth client with its refresh token")
        if token and not (self.client_id and self.client_secret.get_secret_value()):
            raise ValueError("a refresh token needs the id and the secret of its OAuth client")
        if key:
            key_document(key)
            if not (self.folder_id or self.shared_drive or self.impersonate):
                raise ValueError(
                    "a service account has no storage: give a folder, a Shared Drive or a user to impersonate"
                )
        elif self.impersonate:
            raise ValueError("only a service account can impersonate a user")
        return self

    @property
    def location(self) -> str:
        """The folder."""
        return f"Google Drive folder {self.folder_id or ROOT_NAME}"

    def prepare(self) -> None:
        """Make the root folder where there is none yet; one that was given has to be there, and a folder."""
        tree = self._connected()
        if not tree.root:
            ours = [*tree.query(_OUR_ROOT)]
            if not ours:
                made = tree.make_folder(ROOT_NAME, self.shared_drive, {PROPERTY: "root"})
                ours = [tree.get(made), *tree.query(_OUR_ROOT)]  # somebody else's may be older; ours, not listed yet
            tree.root = self.folder_id = min(ours, key=lambda folder: folder.age).id
            tree.api.location = self.location
        found = tree.check_root()
        tree.drive = self.shared_drive = found.get("driveId", "")

    def _begin(self, key: str, resume: str | None) -> Upload:
        """Begin *key*, or go on with *resume*; ``NotFound`` when Google has nothing left of that."""
        check_key(key)
        tree = self._prepared()
        if resume is not None:
            return DriveUpload.resume(tree, key, resume)
        return DriveUpload.begin(tree, key)

    @contextmanager
    def _read(self, key: str, offset: int) -> Iterator[BinaryIO]:
        """The bytes of *key* from *offset* on."""
        check_key(key)
        tree, what = self._prepared(), f"{key} at {self.location}"
        with ExitStack() as stack:
            try:
                stream = stack.enter_context(opened(tree.api, *self._known(tree, key), what, offset))
            except NotFound:  # deleted, and perhaps written anew
                tree.known.pop(key, None)
                stream = stack.enter_context(opened(tree.api, *self._known(tree, key), what, offset))
            yield stream

    def stat(self, key: str) -> StoredObject:
        """Size and time of *key*."""
        return self._find(self._prepared(), check_key(key)).stored(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below *prefix*, read to the last page before the first is given out (T13)."""
        app = check_prefix(prefix).removesuffix("/")
        tree = self._prepared()
        found: dict[str, DriveFile] = {}
        for name, folders in ({app: tree.folders_of(app)} if app else tree.apps()).items():
            for folder in folders:
                for file in tree.files(folder):
                    key = f"{name}/{file.name}"
                    if is_key(key) and (key not in found or file.age < found[key].age):
                        found[key] = file
        tree.known.update({key: (file.id, file.size) for key, file in found.items()})
        return iter([file.stored(key) for key, file in found.items()])

    def remove(self, key: str) -> None:
        """Delete *key* for good, past the bin: every file of that name, so that none comes to light under another."""
        app, _, name = check_key(key).partition("/")
        tree = self._prepared()
        tree.known.pop(key, None)
        tree.folders_of(app)
        for file in tree.named(app, name):
            tree.delete(file.id)

    def digest(self, key: str) -> Digest | None:
        """The SHA-256 that Google computed of what it stores, else the MD5; None for the rare file that has neither."""
        file = self._find(self._prepared(), check_key(key))
        if file.sha256:
            return Digest("sha256", file.sha256)
        return Digest("md5", file.md5) if file.md5 else None

    @property
    def wants_whole_md5(self) -> bool:
        """For the rare file of which Google computed an MD5 only."""
        return True

    def clean(self, now: datetime) -> tuple[str, ...]:
        """Delete whole, hidden files of uploads that never got their name. Sessions end by themselves after a week."""
        tree = self._prepared()
        apps = {folder: app for app, folders in tree.apps().items() for folder in folders}
        removed = []
        for file in [*tree.query(_PARTIALS)]:
            partial, app = _PARTIAL.fullmatch(file.name), apps.get(file.parents[0] if file.parents else "")
            old = max(file.created, file.modified) < now - GRACE
            if old and app and partial and is_key(f"{app}/{partial[1]}"):
                tree.delete(file.id)
                removed.append(f"{app}/{file.name}")
        return tuple(removed)

    def free_space(self) -> int | None:
        """What the account's quota leaves; None where it has none, and in a Shared Drive, which has no quota to ask."""
        tree = self._prepared()
        if tree.drive:
            return None
        quota = tree.api.call("GET", "about", {"fields": "storageQuota(limit,usage)"}).get("storageQuota", {})
        return max(0, int(quota["limit"]) - int(quota.get("usage", 0))) if "limit" in quota else None

    def _known(self, tree: Tree, key: str) -> tuple[str, int]:
        """Id and size of the file that is *key*."""
        known = tree.known.get(key)
        if known is not None and known[1]:  # of an empty file nothing is read that would tell that it is gone
            return known
        file = self._find(tree, key)
        return file.id, file.size

    def _find(self, tree: Tree, key: str) -> DriveFile:
        """*key* as Drive describes it now: by its id where that is known, since lists lag behind (T14)."""
        app, _, name = key.partition("/")
        if known := tree.known.get(key):
            with suppress(NotFound):
                file = tree.get(known[0])
                if file.name == name:
                    return file
            tree.known.pop(key, None)
        found = tree.named(app, name)
        if not found:
            raise NotFound(f"{key} is not at {self.location}")
        tree.known[key] = found[0].id, found[0].size
        return found[0]

    def _prepared(self) -> Tree:
        if not self.folder_id:
            raise ConfigError(
                f"{self.location} was not prepared", "Add it with `backups destination add google-drive`."
            )
        return self._connected()

    def _connected(self) -> Tree:
        """The one connection of this block: made when it is first used, and shared by its threads."""
        with self._lock:
            if self._tree is None:
                api = DriveApi(self._credentials(), self.location)
                self._tree = Tree(api, self.folder_id, self.shared_drive)
            return self._tree

    def _credentials(self) -> Credentials:
        key = self.service_account_key.get_secret_value()
        if key:
            return key_credentials(key, self.impersonate, self.scope)
        secret, token = self.client_secret.get_secret_value(), self.refresh_token.get_secret_value()
        return oauth_credentials(self.client_id, secret, token, self.scope)
