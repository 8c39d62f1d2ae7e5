"""What every answer tells the browser: load nothing from elsewhere, be framed by nobody, keep nothing personal."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import Scope

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_ALWAYS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",  # with less, browsers would hide from us whose form it was
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
LOGIN_IS_OFF = "Login is off: whoever reaches this address on this machine may do everything."


def secure(headers: MutableHeaders, scope: Scope, status: int, is_open: bool) -> None:
    """Add them to the answer *status* to *scope*."""
    for name, value in _ALWAYS.items():
        headers[name] = value
    if scope.get("scheme") == "https":
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if is_open:
        headers["X-Backups-Warning"] = LOGIN_IS_OFF
    headers.setdefault("Cache-Control", _how_long(scope, status))


def _how_long(scope: Scope, status: int) -> str:
    """A file is kept for good where its address says which content it is; anything else is not kept at all."""
    if not scope["path"].startswith("/static/") or status >= 400:
        return "no-store"
    return "public, max-age=31536000, immutable" if b"v=" in scope.get("query_string", b"") else "no-cache"
