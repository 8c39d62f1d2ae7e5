"""A proxy before an S3 server that behaves as B2 does, and misbehaves as it is told."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

_HOP = {"connection", "transfer-encoding", "expect", "keep-alive"}


@dataclass(frozen=True)
class Call:
    """A request, as the S3 operation that it is."""

    operation: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    @property
    def part(self) -> int:
        """The number of the part it is about; 0 where it is about none."""
        return int(self.query.get("partNumber", ["0"])[0])


@dataclass(frozen=True)
class Answer:
    """What goes back to the client."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    promised: int | None = None
    """The Content-Length to claim, where that is another one than the body has: the connection ends after it."""
    pause: float = 0.0
    """Seconds before each byte of the body."""


class Reset(Exception):
    """The connection is to be reset now."""


class Store(Protocol):
    """The server behind, with what B2 would refuse; *unchecked* leaves that out."""

    def __call__(self, body: bytes) -> Answer: ...
    def unchecked(self, body: bytes) -> Answer: ...


Fault = Callable[[Call, bytes, Store], Answer]


@dataclass
class _Rule:
    operation: str
    fault: Fault
    times: int
    when: Callable[[Call], bool]


@dataclass
class Proxy:
    """A running proxy: ``calls`` tells what came; ``inject`` makes what comes next go wrong."""

    endpoint: str
    calls: list[Call] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def inject(
        self, operation: str, fault: Fault, times: int = 1, when: Callable[[Call], bool] = lambda _: True
    ) -> None:
        """The next *times* calls of *operation* (``*``: of any) for which *when* holds meet *fault*."""
        with self._lock:
            self._rules.append(_Rule(operation, fault, times, when))

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        with self._lock:
            self._rules.clear()

    def count(self, operation: str) -> int:
        """How often *operation* was called."""
        return sum(call.operation == operation for call in self.calls)

    def take(self, call: Call) -> Fault:
        """Note *call*; the fault that it meets, or none."""
        with self._lock:
            self.calls.append(call)
            for rule in self._rules:
                if rule.times and rule.operation in (call.operation, "*") and rule.when(call):
                    rule.times -= 1
                    return rule.fault
        return lambda _call, body, store: store(body)


@contextmanager
def running_proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy on a free port before *upstream*."""
    server = _Server(("127.0.0.1", 0), _Handler)
    proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
    server.proxy, server.upstream = proxy, urlsplit(upstream).netloc
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# -- what can go wrong


def refuse(status: int, code: str, text: str = "", **headers: str) -> Fault:
    """The store answers with an error; *headers* with ``_`` for ``-``."""
    return lambda _call, _body, _store: error(status, code, text, **headers)


def error(status: int, code: str, text: str = "", **headers: str) -> Answer:
    """An error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Answer(status, [("Content-Type", "application/xml"), *named], body)


def reset(_call: Call, _body: bytes, _store: Store) -> Answer:
    """The connection is reset before the store sees anything."""
    raise Reset


def lost(_call: Call, body: bytes, store: Store) -> Answer:
    """The store does it, and its answer is lost."""
    store(body)
    raise Reset


def short_body(_call: Call, body: bytes, store: Store) -> Answer:
    """Half of the answer comes, then the connection ends."""
    answer = store(body)
    return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2], len(answer.body))


def trickling(_call: Call, body: bytes, store: Store) -> Answer:
    """The answer comes byte by byte, with a pause before each."""
    answer = store(body)
    return Answer(answer.status, answer.headers, answer.body, pause=0.01)


def flipped_body(_call: Call, body: bytes, store: Store) -> Answer:
    """One bit in the middle of the answer is another one."""
    answer = store(body)
    return Answer(answer.status, answer.headers, flip(answer.body))


def flipped_upload(_call: Call, body: bytes, store: Store) -> Answer:
    """One bit of what is sent changes on the way."""
    return store(flip(body))


def short_store(_call: Call, body: bytes, store: Store) -> Answer:
    """The store gets, and acknowledges, one byte less."""
    return store.unchecked(body[:-1])


def flip(data: bytes) -> bytes:
    """*data* with one bit in its middle changed."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


# -- how it works


def _operation(method: str, path: str, query: dict[str, list[str]]) -> str:
    is_object = path.strip("/").count("/") > 0
    named = {
        ("PUT", "partNumber"): "UploadPart",
        ("POST", "uploads"): "CreateMultipartUpload",
        ("POST", "uploadId"): "CompleteMultipartUpload",
        ("DELETE", "uploadId"): "AbortMultipartUpload",
        ("GET", "uploadId"): "ListParts",
        ("GET", "uploads"): "ListMultipartUploads",
        ("GET", "versions"): "ListObjectVersions",
        ("GET", "list-type"): "ListObjectsV2",
        ("GET", "object-lock"): "GetObjectLockConfiguration",
    }
    for (verb, key), operation in named.items():
        if method == verb and key in query:
            return operation
    return {"PUT": "Put", "GET": "Get", "HEAD": "Head", "DELETE": "Delete", "POST": "Post"}[method] + (
        "Object" if is_object else "Bucket"
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy
    upstream: str

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is what some tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(_operation(self.command, url.path, query), url.path, query, headers)
        try:
            self._send(self.server.proxy.take(call)(call, body, _Upstream(self, call)))
        except Reset:
            # SO_LINGER with no time: the kernel sends RST, as a router does that has forgotten a connection.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        length = len(answer.body) if answer.promised is None else answer.promised
        for name, value in answer.headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
            elif self.command == "HEAD":
                length = int(value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD" and answer.pause:
            for byte in answer.body:
                threading.Event().wait(answer.pause)  # a peer that drips: that is its fault
                self.wfile.write(bytes([byte]))
        elif self.command != "HEAD":
            self.wfile.write(answer.body)
        if answer.promised is not None:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """The tests tell what they need."""


@dataclass(frozen=True)
class _Upstream:
    """One request's way to the server behind."""

    handler: _Handler
    call: Call

    def __call__(self, body: bytes) -> Answer:
        return _as_b2_refuses(self.call, body) or self.unchecked(body)

    def unchecked(self, body: bytes) -> Answer:
        request = self.handler
        upstream = http.client.HTTPConnection(request.server.upstream, timeout=60)
        try:
            upstream.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name.lower() not in _HOP | {"content-length"}:
                    upstream.putheader(name, value)  # Host too: it is signed
            if body or request.command in ("PUT", "POST"):
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
            return Answer(answer.status, kept, answer.read())
        finally:
            upstream.close()


def _as_b2_refuses(call: Call, body: bytes) -> Answer | None:
    """The refusals of B2 that other servers do not know: AWS's own checksums (T21), and bodies other than their MD5."""
    for name in call.headers:
        if name.startswith("x-amz-checksum-") or name == "x-amz-sdk-checksum-algorithm":
            return error(400, "InvalidArgument", f"Unsupported header '{name}' received for this API call.")
    if call.operation in ("PutObject", "UploadPart"):
        sent = call.headers.get("content-md5", "")
        if sent != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
            return error(400, "BadDigest" if sent else "InvalidRequest", "The Content-MD5 is not that of the body.")
    return None
