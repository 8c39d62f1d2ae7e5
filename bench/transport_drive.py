"""Google Drive: uploads and downloads beside plain requests, curl and Google's own client; and what a list costs.

The server is the tests' own, in a process of its own, and part of every figure. It computes no digests here. Each
candidate is a child process that tells what the transfer alone took: Python, imports and the first token are not in it.
"""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import Cost, report, rounds

SEGMENT = 32 << 20
OBJECTS = 10_000
KEY = "bench/20261123T030000Z-full-3f9a2c.uploads.tar.zst.age"


def run(place: Path, megabytes: int, count: int) -> None:
    """Up, down, and a list of ``OBJECTS``."""
    _write(place, megabytes)
    for verb, objects in (("upload", 0), ("download", 0), ("list", OBJECTS)):
        with _server(place, objects):
            names = [name for name in _CHILDREN if name.startswith(verb)]
            costs = rounds({name: partial(_run, name, place) for name in names}, count)
        report(costs, f"{verb}: requests")
        for name, runs in costs.items() if verb != "list" else ():
            speeds = sorted(megabytes / cost.wall for cost in runs)
            print(f"{name:<28} {speeds[len(speeds) // 2]:8.0f} MB/s [{speeds[0]:.0f} to {speeds[-1]:.0f}]")


@contextmanager
def _server(place: Path, objects: int) -> Iterator[None]:
    ready = place / "ready.json"
    argv = [sys.executable, "-m", "tests.peers.drive", "--ready", str(ready), "--objects", str(objects)]
    process = subprocess.Popen(argv, cwd=Path(__file__).parent.parent)
    try:
        while not ready.exists():
            assert process.poll() is None, "the server did not start"
            time.sleep(0.05)
        yield
        assert process.poll() is None, f"the server ended under way: {process.returncode}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        ready.unlink(missing_ok=True)


def _write(place: Path, megabytes: int) -> None:
    """The same bytes whole and, as a spool has them, in segments."""
    block = os.urandom(1_000_000)
    with (place / "data").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
    with (place / "data").open("rb") as file:
        index = 0
        while data := file.read(SEGMENT):
            (place / f"{index:06}.seg").write_bytes(data)
            index += 1


def _run(name: str, place: Path) -> Cost:
    argv = [sys.executable, "-m", "bench.transport_drive", str(place), name]
    done = subprocess.run(argv, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-3000:]}")
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def _timed(work: Callable[[], object], children: bool = False) -> dict[str, float]:
    """What *work* takes, of this process or of the children that it waits for."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    before, began = resource.getrusage(who), time.monotonic()
    work()
    wall, after = time.monotonic() - began, resource.getrusage(who)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "peak_mib": after.ru_maxrss / 1024}


# -- ours


def _destination(place: Path) -> Any:
    from blocks import GoogleDriveDestination
    from blocks.destinations import google_drive_api, google_drive_auth

    ready = json.loads((place / "ready.json").read_text())
    google_drive_api.ENDPOINT, google_drive_auth.TOKEN_ENDPOINT = ready["url"], f"{ready['url']}/token"
    made = GoogleDriveDestination(
        folder_id=ready["folder"], shared_drive=ready["drive"], service_account_key=ready["key"]
    )
    made.remove(KEY)  # a token, a connection
    return made


def _our_upload(place: Path) -> dict[str, float]:
    from vault.spool import Segment

    destination, offset, segments = _destination(place), 0, []
    for index, path in enumerate(sorted(place.glob("*.seg"))):
        segments.append(Segment(index, offset, path.stat().st_size, path))
        offset += path.stat().st_size

    def work() -> None:
        upload = destination.upload(KEY)
        for segment in segments:
            upload.append(segment)
        assert upload.commit().size == offset

    cost = _timed(work)
    destination.remove(KEY)
    return cost


def _our_download(place: Path) -> dict[str, float]:
    destination, size, buffer = _destination(place), (place / "data").stat().st_size, bytearray(1 << 20)
    destination.remove(KEY)
    _put(destination, place)

    def work() -> None:
        read = 0
        with destination.open(KEY) as stream:
            while count := stream.readinto(buffer):
                read += count
        assert read == size

    cost = _timed(work)
    destination.remove(KEY)
    return cost


def _our_list(place: Path) -> dict[str, float]:
    destination = _destination(place)
    return _timed(lambda: sum(1 for _ in destination.list("many/")))


def _put(destination: Any, place: Path) -> str:
    """The bytes as a file of *destination*; its id."""
    from vault.spool import Segment

    upload = destination.upload(KEY)
    upload.append(Segment(0, 0, (place / "data").stat().st_size, place / "data"))
    upload.commit()
    return str(destination._known(destination._prepared(), KEY)[0])


# -- others


class _Other:
    """A session, a file and the like, made by our driver, for a candidate that then only moves bytes."""

    def __init__(self, place: Path) -> None:
        self.data = place / "data"
        self.size = self.data.stat().st_size
        self.destination = _destination(place)
        self.api = self.destination._prepared().api
        self.token = self.api._token()
        self.headers = {"Authorization": f"Bearer {self.token}"}

    def session(self) -> str:
        metadata = {"name": "other", "parents": [self.destination.folder_id], "mimeType": "application/octet-stream"}
        return str(self.api.start_upload(metadata, "id,size"))

    def delete(self, document: dict[str, Any]) -> None:
        assert int(document["size"]) == self.size
        self.destination._prepared().delete(document["id"])


def _requests_upload(place: Path) -> dict[str, float]:
    import requests

    other, answers = _Other(place), []
    session, headers = other.session(), {"Content-Range": f"bytes 0-{other.size - 1}/{other.size}", **other.headers}

    def work() -> None:
        with other.data.open("rb") as file:
            answers.append(requests.put(session, data=file, headers=headers, timeout=600).json())

    cost = _timed(work)
    other.delete(answers[0])
    return cost


def _curl_upload(place: Path) -> dict[str, float]:
    other = _Other(place)
    content_range = f"Content-Range: bytes 0-{other.size - 1}/{other.size}"
    options = ["-sS", "-H", f"Authorization: Bearer {other.token}", "-H", content_range, "-H", "Expect:"]
    argv = ["curl", *options, "-T", str(other.data), "-o", str(place / "answer"), other.session()]
    cost = _timed(lambda: subprocess.run(argv, check=True), children=True)
    other.delete(json.loads((place / "answer").read_text()))
    return cost


def _service(other: _Other) -> Any:
    from google.oauth2.credentials import Credentials
    from googleapiclient.discovery import build

    endpoint = {"api_endpoint": f"{other.api.endpoint}/drive/v3/"}
    return build("drive", "v3", credentials=Credentials(other.token), client_options=endpoint, static_discovery=True)


def _google_upload(place: Path) -> dict[str, float]:
    from googleapiclient.http import MediaFileUpload

    other, answers = _Other(place), []
    service = _service(other)
    body = {"name": "other", "parents": [other.destination.folder_id]}
    media = MediaFileUpload(str(other.data), mimetype="application/octet-stream", chunksize=SEGMENT, resumable=True)
    request = service.files().create(body=body, media_body=media, fields="id,size", supportsAllDrives=True)
    request.resumable_uri = other.session()

    def work() -> None:
        answer = None
        while answer is None:
            _, answer = request.next_chunk()
        answers.append(answer)

    cost = _timed(work)
    other.delete(answers[0])
    return cost


def _downloading(place: Path, read: Callable[[_Other, str], int], children: bool = False) -> dict[str, float]:
    other, sizes = _Other(place), []
    file_id = _put(other.destination, place)
    cost = _timed(lambda: sizes.append(read(other, file_id)), children)
    assert sizes == [other.size]
    other.destination.remove(KEY)
    return cost


def _media(other: _Other, file_id: str) -> str:
    return f"{other.api.endpoint}/drive/v3/files/{file_id}?alt=media&supportsAllDrives=true"


def _requests_download(place: Path) -> dict[str, float]:
    import requests

    def read(other: _Other, file_id: str) -> int:
        with requests.get(_media(other, file_id), headers=other.headers, stream=True, timeout=600) as response:
            return sum(len(block) for block in response.iter_content(1 << 20))

    return _downloading(place, read)


def _curl_download(place: Path) -> dict[str, float]:
    def read(other: _Other, file_id: str) -> int:
        options = ["-sS", "-H", f"Authorization: Bearer {other.token}", "-o", "/dev/null", "-w", "%{size_download}"]
        return int(subprocess.run(["curl", *options, _media(other, file_id)], check=True, capture_output=True).stdout)

    return _downloading(place, read, children=True)


def _google_download(place: Path) -> dict[str, float]:
    from googleapiclient.http import MediaIoBaseDownload

    class Null(io.RawIOBase):
        size = 0

        def write(self, data: Any) -> int:
            self.size += len(data)
            return len(data)

    def read(other: _Other, file_id: str) -> int:
        sink = Null()
        request = _service(other).files().get_media(fileId=file_id, supportsAllDrives=True)
        download, done = MediaIoBaseDownload(sink, request, chunksize=SEGMENT), False
        while not done:
            _, done = download.next_chunk()
        return sink.size

    return _downloading(place, read)


def _requests_list(place: Path) -> dict[str, float]:
    """The same pages, read as JSON and no further."""
    import requests

    other = _Other(place)
    tree = other.destination._prepared()
    (folder,) = tree.folders_of("many")
    fields = "nextPageToken,files(id,name,size,createdTime,modifiedTime)"
    shared = {
        "corpora": "drive",
        "driveId": tree.drive,
        "supportsAllDrives": "true",
        "includeItemsFromAllDrives": "true",
    }
    params = {"q": f"'{folder}' in parents and trashed = false", "pageSize": "1000", "fields": fields, **shared}

    def work() -> None:
        with requests.Session() as session:
            answer: dict[str, Any] = {"nextPageToken": ""}
            while "nextPageToken" in answer:
                page = {"pageToken": answer["nextPageToken"]} if answer["nextPageToken"] else {}
                url = f"{other.api.endpoint}/drive/v3/files"
                answer = session.get(url, params={**params, **page}, headers=other.headers, timeout=60).json()

    return _timed(work)


_CHILDREN: dict[str, Callable[[Path], dict[str, float]]] = {
    "upload: requests": _requests_upload,
    "upload: requests again": _requests_upload,
    "upload: ours": _our_upload,
    "upload: curl": _curl_upload,
    "upload: google's client": _google_upload,
    "download: requests": _requests_download,
    "download: requests again": _requests_download,
    "download: ours": _our_download,
    "download: curl": _curl_download,
    "download: google's client": _google_download,
    "list: requests": _requests_list,
    "list: ours": _our_list,
}


if __name__ == "__main__":
    print(json.dumps(_CHILDREN[sys.argv[2]](Path(sys.argv[1]))))
