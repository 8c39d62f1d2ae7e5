"""Requests and answers as ASGI has them: read one whole, hand it on, hear what is answered, answer again."""

from __future__ import annotations

from http import HTTPStatus
from http.cookies import SimpleCookie

from fastapi import Request
from starlette.types import Message, Receive, Send

from console.idempotency import Answer
from console.problems import Problem

LARGEST_BODY = 1 << 20
"""Bytes of a request."""


async def read(request: Request) -> bytes:
    """Its body; ``Problem`` 413 where that is too large."""
    body = bytearray()
    too_large = Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"a request has {LARGEST_BODY} bytes at most",
        headers={"Connection": "close"},
    )
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > LARGEST_BODY:
        raise too_large
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise too_large
    return bytes(body)


def again(body: bytes, receive: Receive) -> Receive:
    """What gives *body*, which was read already, and then goes on as before."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_one() -> Message:
        return left.pop() if left else await receive()

    return next_one


class Heard:
    """Passes an answer on, and knows it afterwards."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._whole = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self._headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            self._whole = not message.get("more_body", False)
        await self._send(message)

    @property
    def answer(self) -> Answer | None:
        """All of it but cookies; None where it did not come to its end."""
        kept = tuple((name, value) for name, value in self._headers if name != b"set-cookie")
        return Answer(self.status, kept, bytes(self._body)) if self._whole else None


async def replay(answer: Answer, send: Send) -> None:
    """Answer the same again."""
    headers = [*answer.headers, (b"idempotency-replayed", b"true")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def cookie(name: str, value: str, seconds: int, secure: bool) -> str:
    """A ``Set-Cookie`` that no script reads, and that no other site's page makes a browser send."""
    made: SimpleCookie = SimpleCookie()
    made[name] = value
    made[name].update({"path": "/", "max-age": str(seconds), "samesite": "Strict"})
    made[name]["httponly"] = True
    if secure:
        made[name]["secure"] = True
    return made.output(header="").strip()


def secured(set_cookie: str) -> str:
    """The same ``Set-Cookie``, for HTTPS only."""
    parts = set_cookie.split("; ")
    return set_cookie if "secure" in map(str.lower, parts) else "; ".join([*parts, "Secure"])
