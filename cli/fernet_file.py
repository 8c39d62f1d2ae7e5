"""A file that holds one Fernet key, and that nobody else may read."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet

from vault.errors import BackupError, ConfigError


def read_key(path: Path) -> str | None:
    """The key in *path*; None where there is no such file. ``ConfigError`` where others may read it, or it is none."""
    text = read_private(path)
    return None if text is None else checked_key(text[:1024].strip(), str(path))


def read_private(path: Path) -> str | None:
    """What is in *path*; None where there is no such file. ``ConfigError`` where others may read it."""
    try:
        with open(path, opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(65536)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BackupError(f"{path} cannot be read: {getattr(error, 'strerror', 'it is no text')}") from error
    if mode & 0o077:
        raise ConfigError(f"others may read {path}", f"Take that right away: chmod 600 {path}; then rotate the key.")
    return text


def checked_key(key: str, where: str) -> str:
    """*key*, or ``ConfigError`` where it is none."""
    try:
        Fernet(key)
    except ValueError:
        raise ConfigError(f"{where} holds no Fernet key", "It has 44 characters; put back the one there was.") from None
    return key


def write_new_key(path: Path) -> str:
    """A new key in the new file *path*, 0600, and on its disk; whoever else makes that file at once has the same one.

    Whole or not at all: a kill in between leaves only a draft that the next one replaces.
    """
    draft = path.with_name(f"{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        with open(draft, "x", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
            file.write(f"{Fernet.generate_key().decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # never in the place of another key
        draft.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}", "Is its directory there, and yours?"
        ) from error
    key = read_key(path)
    if key is None:
        raise BackupError(f"{path} was taken away while it was made", "Try again.")
    return key


def sync_directory(directory: Path) -> None:
    """What was renamed in *directory* stays so after a power cut."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
