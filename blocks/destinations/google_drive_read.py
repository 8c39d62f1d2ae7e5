"""Reading a file of Google Drive, from any byte on; a connection that breaks is taken up where it broke."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from blocks.destinations.google_drive_api import DriveApi
from blocks.destinations.google_drive_errors import FlaggedAsMalware, translated
from vault.errors import DestinationError, DestinationUnavailable

if TYPE_CHECKING:
    from requests import Response

_log = logging.getLogger(__name__)
_BUFFER = 256 * 1024
WINDOW = 60.0
SLOWEST = 1024
"""Bytes a second that have to come within so many seconds of waiting for them (T20)."""


@contextmanager
def opened(api: DriveApi, file_id: str, size: int, what: str, offset: int = 0) -> Iterator[BinaryIO]:
    """The bytes of a file of *size* bytes from *offset* on: all of them, or an error (T11)."""
    raw = _Content(api, file_id, size, what, offset)
    with io.BufferedReader(raw, _BUFFER) as reader:
        raw.connect()
        yield reader


class _Content(io.RawIOBase):
    def __init__(self, api: DriveApi, file_id: str, size: int, what: str, offset: int) -> None:
        super().__init__()
        self._api, self._id, self._size, self._what = api, file_id, size, what
        self._position = offset
        self._failed = 0  # tries since the last byte came
        self._waited, self._came = 0.0, 0
        self._response: Response | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)[: max(0, self._size - self._position)]
        while view:
            error = DestinationUnavailable(f"{self._what}: only {self._position} of {self._size} bytes came")
            count = 0
            try:
                count = self._read(view)
            except DestinationUnavailable as problem:
                error = problem
            if count:
                self._failed = 0
                self._position += count
                self._check_pace(count)
                return count
            self._disconnect()
            self._failed += 1
            self._api.wait_or_raise(self._failed, error, None)
        return 0

    def connect(self) -> Response | None:
        """Ask for the bytes from the position on; nothing where none is left."""
        if self._response is None and self._position < self._size:
            self._response = self._get({})
        return self._response

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _read(self, view: memoryview) -> int:
        response = self.connect()
        if response is None:
            return 0
        began = time.monotonic()
        with translated(self._what):
            data = response.raw.read1(len(view), decode_content=False)
        view[: len(data)] = data
        self._waited += time.monotonic() - began
        return len(data)

    def _check_pace(self, count: int) -> None:
        """Pass unless bytes only drip: another connection would hardly be a better one."""
        self._came += count
        if self._waited > WINDOW:
            if self._came < SLOWEST * self._waited:
                raise DestinationUnavailable(f"{self._what}: only {self._came} bytes came in {self._waited:.0f} s")
            self._waited, self._came = 0.0, 0

    def _get(self, acknowledged: dict[str, str]) -> Response:
        try:
            response = self._api.send(
                "GET",
                f"{self._api.endpoint}/drive/v3/files/{self._id}",
                params={"alt": "media", "supportsAllDrives": "true", **acknowledged},
                headers={"Accept-Encoding": "identity"}
                | ({"Range": f"bytes={self._position}-"} if self._position else {}),
                stream=True,
            )
        except FlaggedAsMalware:
            if acknowledged:
                raise
            _log.warning("Google takes %s for malware; it is read all the same, and checked by its digest", self._what)
            return self._get({"acknowledgeAbuse": "true"})
        try:
            self._check(response)
        except DestinationError:
            response.close()
            raise
        return response

    def _check(self, response: Response) -> None:
        """Pass when these are the bytes that were asked for, to the end of the file."""
        length = response.headers.get("Content-Length", "")
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        begin, size = (int(span[1]), int(span[2])) if span else (0, int(length) if length.isdecimal() else self._size)
        if begin != self._position:
            raise DestinationError(f"{self._what}: Google does not give the bytes from {self._position} on")
        if size != self._size:
            raise DestinationUnavailable(f"{self._what}: {size} bytes come, and it has {self._size}")

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        self._waited, self._came = 0.0, 0
