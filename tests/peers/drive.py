"""Google Drive, version 3, on 127.0.0.1: a strict server of the tests' own, which fails on demand.

It follows Google's documentation, below https://developers.google.com/workspace/drive/api/:
- guides/manage-uploads: resumable sessions, 308 and Range, status requests, expired sessions, uploads of unknown size;
- guides/create-file: ids from files.generateIds, 409 for one in use;
- reference/rest/v3/files, about: by the discovery document, see ``drive_rules``; permanent deletion in a Shared Drive
  only for its managers; checksums of content that Drive stores;
- guides/search-files, ref-search-terms: queries; guides/enable-shareddrives: what has to be asked for;
- guides/api-specific-auth: the scopes ``drive`` and ``drive.file``; guides/handle-errors: errors and their bodies;
- about-shareddrives: service accounts have no storage.

Two things are from practice: ``bytes */N`` with all N bytes there ends an upload (so Google's Go client ends those of
unknown size), and with ``drive.file`` a service account sees a folder that was shared with it (so kopia works).

Where Google is said to be lenient, or silent, it refuses: a chunk that does not begin at the first missing byte or is
no multiple of 256 KiB, unknown parameters and fields, ids that it did not generate, items of a Shared Drive that were
not asked for with ``supportsAllDrives``. Not imitated: simple and multipart uploads, revisions, several parents,
permissions as a resource, shortcuts, exports, batches, other search terms, labels, and lags of its own accord.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.peers.drive_accounts import Account, TokenRefused
from tests.peers.drive_rules import Refused, check_parameters
from tests.peers.drive_state import Drive, Fault, Operation, Session

QUANTUM = 256 * 1024


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        drive = self.server.drive
        address = urlsplit(self.path)
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        operation = self._operation(address.path, query)
        with drive.lock:
            drive.calls.append((operation, query))
            fault = self._fault(operation)
        self._taken = 0  # bytes of the body that were read
        if fault is not None and fault.hang:
            drive.closing.wait()
        if fault is not None and (fault.hang or fault.cut == "before"):
            self.close_connection = True
            return
        self._cut = fault is not None and fault.cut == "after"
        try:
            if fault is not None and fault.status and fault.keep is None:
                raise Refused(fault.status, fault.reason, f"made to fail: {fault.reason}", **fault.headers)
            self._dispatch(operation, address.path, query, fault)
        except (Refused, TokenRefused) as error:
            self._drain()
            self._answer(error.status, error.body, getattr(error, "headers", {}))

    def _fault(self, operation: Operation) -> Fault | None:
        for fault in self.server.drive.faults:
            if fault.operation == operation and fault.times > 0:
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _operation(self, path: str, query: dict[str, str]) -> Operation:
        if path == "/token":
            return "token"
        if path == "/upload/drive/v3/files":
            if self.command == "POST":
                return "start"
            if self.command == "DELETE":
                return "cancel"
            return "status" if self.headers.get("Content-Range") == "bytes */*" else "chunk"
        fixed: dict[tuple[str, str], Operation] = {
            ("GET", "/drive/v3/about"): "about",
            ("GET", "/drive/v3/files/generateIds"): "ids",
            ("GET", "/drive/v3/files"): "list",
            ("POST", "/drive/v3/files"): "create",
        }
        named: dict[str, Operation] = {"GET": "get", "PATCH": "update", "DELETE": "delete"}
        found = fixed.get((self.command, path)) or named.get(self.command, "get")
        return "media" if found == "get" and query.get("alt") == "media" else found

    def _dispatch(self, operation: Operation, path: str, query: dict[str, str], fault: Fault | None) -> None:
        drive = self.server.drive
        if operation == "token":
            form = dict(parse_qsl(self._body().decode()))
            self._json(drive.accounts.token(form))
            return
        account = self._account()
        if operation in ("chunk", "status", "cancel"):
            self._session(operation, account, query, fault)
            return
        node_id = path.removeprefix("/drive/v3/files/")
        if operation == "media":
            self._media(account, query, node_id, fault)
            return
        body = self._document() if self.command in ("POST", "PATCH") else {}
        with drive.lock:
            if operation == "start":
                session = drive.start(account, query, body)
                location = f"{self.server.url}/upload/drive/v3/files?uploadType=resumable&upload_id={session.id}"
                self._answer(200, b"", {"Location": location, "X-GUploader-UploadID": session.id})
            elif operation == "list":
                self._json(drive.list(account, query, fault))
            elif operation == "ids":
                self._json(drive.ids(account, query))
            elif operation == "about":
                self._json(drive.about(account, query))
            elif operation == "create":
                self._json(drive.create(account, query, body))
            elif operation == "update":
                self._json(drive.update(account, query, node_id, body))
            elif operation == "delete":
                drive.delete(account, query, node_id)
                self._answer(204, b"", {})
            else:
                self._json(drive.get(account, query, node_id))

    def _account(self) -> Account:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        account = self.server.drive.accounts.tokens.get(token)
        if kind != "Bearer" or account is None:
            raise Refused(401, "authError", "Invalid Credentials", WWW_Authenticate='Bearer error="invalid_token"')
        return account

    # -- uploads

    def _session(self, operation: Operation, account: Account, query: dict[str, str], fault: Fault | None) -> None:
        drive = self.server.drive
        session = drive.sessions.get(query.get("upload_id", ""))
        if session is None or session.account != account:
            raise Refused(404, "notFound", "no such session")
        if session.over:
            raise Refused(session.over, "notFound", "the session is over")
        if operation == "cancel":
            session.over = 499
            session.data = bytearray()
            self._answer(499, b"", {})
        elif session.node is not None:
            self._drain()
            self._json(drive.finished(session))
        elif operation == "status":
            self._kept(session)
        else:
            self._chunk(session, fault or Fault("chunk"))

    def _chunk(self, session: Session, fault: Fault) -> None:
        drive, length = self.server.drive, int(self.headers.get("Content-Length", 0))
        given = self.headers.get("Content-Range", "")
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", given)
        if span is None or (span[1] is None) != (length == 0):
            raise Refused(400, "badRequest", f"Failed to parse Content-Range header: {given}")
        begin = int(span[1]) if span[1] else len(session.data)
        total = None if span[3] == "*" else int(span[3])
        last = total is not None and begin + length == total
        if span[1] and int(span[2]) - begin + 1 != length:
            raise Refused(400, "badRequest", f"{given} is not what {length} bytes are")
        if begin != len(session.data):
            raise Refused(400, "badRequest", f"{given}, but {len(session.data)} bytes are here")
        if not last and (length % QUANTUM or length == 0):
            raise Refused(400, "badRequest", f"a chunk of {length} bytes is no multiple of 256 KiB, nor the last one")
        self._keep(session, length, fault.keep)
        if fault.status:
            raise Refused(fault.status, fault.reason, "made to fail", **fault.headers)
        with drive.lock:
            drive.check_quota(session.account, drive.nodes[session.metadata["parents"][0]].drive, len(session.data))
            if last and len(session.data) == total:
                drive.finish(session, fault.drop)
                self._json(drive.finished(session))
            else:
                self._kept(session)

    def _keep(self, session: Session, length: int, most: int | None) -> None:
        """Read the body, and keep what arrives of it, or a part."""
        begin = len(session.data)
        try:
            while self._taken < length:
                block = self.rfile.read(min(1 << 20, length - self._taken))
                if not block:
                    raise ConnectionResetError
                self._taken += len(block)
                session.data += block
        finally:
            came = len(session.data) - begin
            kept = came if self._taken == length else came // QUANTUM * QUANTUM
            del session.data[begin + (kept if most is None else min(most, kept)) :]

    def _kept(self, session: Session) -> None:
        held = len(session.data)
        self._answer(308, b"", {"Range": f"bytes=0-{held - 1}"} if held else {})

    # -- downloads

    def _media(self, account: Account, query: dict[str, str], node_id: str, fault: Fault | None) -> None:
        check_parameters("files", "get", query)
        node = self.server.drive.find(account, node_id, query.get("supportsAllDrives") == "true")
        if node.content is None:
            raise Refused(403, "fileNotDownloadable", "Only files with binary content can be downloaded.")
        content = memoryview(node.content)
        begin, end, headers, status = 0, len(content), {"Content-Type": node.kind}, 200
        if "Range" in self.headers:
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"])
            begin = int(span[1]) if span else end
            if begin >= end:
                raise Refused(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
            end = min(end, int(span[2]) + 1) if span and span[2] else end
            headers["Content-Range"], status = f"bytes {begin}-{end - 1}/{len(content)}", 206
        part = content[begin:end]
        if fault is not None and fault.flip:
            part = memoryview(bytes([part[0] ^ 1]) + bytes(part[1:]))
        drop = fault.drop if fault is not None else 0
        if fault is not None and fault.drip:
            self._drip(part, fault.drip, headers)
            return
        told = len(part) - (drop if fault is not None and fault.lie else 0)
        self._answer(status, part[: len(part) - drop], headers, told)
        self.close_connection = self.close_connection or told != len(part) - drop

    def _drip(self, part: memoryview, pause: float, headers: Mapping[str, str]) -> None:
        self._answer(200, b"", headers, len(part))
        for begin in range(len(part)):
            if self.server.drive.closing.wait(pause):
                break
            self.wfile.write(part[begin : begin + 1])
        self.close_connection = True

    # -- HTTP

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        self._taken = length
        return self.rfile.read(length)

    def _document(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            raise Refused(400, "badRequest", "metadata comes as application/json")
        body = json.loads(self._body() or b"{}")
        assert isinstance(body, dict)
        return body

    def _drain(self) -> None:
        """Read what is left of the body: the next request comes after it."""
        left = int(self.headers.get("Content-Length", 0)) - self._taken
        while left > 0 and (block := self.rfile.read(min(1 << 20, left))):
            left -= len(block)

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json; charset=UTF-8"})

    def _answer(
        self, status: int, body: bytes | memoryview, headers: Mapping[str, str], length: int | None = None
    ) -> None:
        if self._cut:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if len(body):
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.drive = Drive()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that goes away is none of our business
            super().handle_error(request, client_address)


@dataclass(frozen=True)
class DriveServer:
    """A running server: where it is, and what it holds."""

    url: str
    drive: Drive


@contextmanager
def running_drive(tls: ssl.SSLContext | None = None) -> Iterator[DriveServer]:
    """A server in threads of this process."""
    server = _Server(tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield DriveServer(server.url, server.drive)
    finally:
        server.drive.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def main() -> None:
    """Serve until SIGTERM, for the benches: a Shared Drive and a service account, as the file *ready* then says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ready", type=Path, required=True, help="the file that is written when it serves")
    parser.add_argument("--objects", type=int, default=0, help="so many small objects of an app `many`")
    options = parser.parse_args()
    with running_drive() as server, suppress(KeyboardInterrupt):
        service = server.drive.accounts.service_account("bench", "canary")
        drive = server.drive.shared_drive(**{service.email: "organizer"})
        server.drive.checksums = False  # what is measured is the transport
        own = {service.email}
        root = server.drive.add("prefect-backups", drive, applications=own, shared_with=own)
        many = server.drive.add("many", root.id, applications=own)
        for number in range(options.objects):
            name = f"20261123T030000Z-full-{number:06x}.uploads.tar.zst.age"
            server.drive.add(name, many.id, content=b"x", applications=own)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        ready = {"url": server.url, "key": service.key, "drive": drive, "folder": root.id}
        options.ready.with_suffix(".part").write_text(json.dumps(ready))
        options.ready.with_suffix(".part").rename(options.ready)
        signal.pause()


if __name__ == "__main__":
    main()
