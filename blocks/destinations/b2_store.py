"""How S3 stores differ, and a client for one of them."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from vault.errors import ConfigError

Provider = Literal["auto", "b2", "aws", "r2", "minio", "wasabi", "other"]

CONNECT_TIMEOUT = 20.0
READ_TIMEOUT = 60.0
"""Seconds. A store that says nothing for so long is away; the first also bounds each write to the socket."""
_TRIES = 4
_LONGEST_WAIT = 60.0
"""Seconds that a call waits for a store that asks for it; for longer waits there are the retries of the step."""


@dataclass(frozen=True)
class Preset:
    """What may be relied on at a kind of store; what is wrong here costs a call, never a wrong answer."""

    region: str
    """Where the endpoint does not say it."""
    etag_is_md5: bool = True
    """The store computes the ETag from the bytes: the MD5, or that of the parts' MD5s."""
    conditional: bool = False
    """``If-None-Match: *`` is understood by put and by complete."""
    versions: bool = True
    """Versions can be listed and deleted, also where versioning is off."""
    path_style: bool = True


PRESETS: dict[str, Preset] = {
    "b2": Preset("us-west-000"),
    "aws": Preset("us-east-1", conditional=True, path_style=False),
    "r2": Preset("auto", conditional=True, versions=False),
    "minio": Preset("us-east-1", conditional=True),
    "wasabi": Preset("us-east-1"),
    # The ETag may be what we sent, given back unread (D13): there reading back is the only proof.
    "other": Preset("us-east-1", etag_is_md5=False),
}
_HOSTS = (
    ("backblazeb2.com", "b2"),
    ("amazonaws.com", "aws"),
    ("r2.cloudflarestorage.com", "r2"),
    ("wasabisys.com", "wasabi"),
)
_REGION = re.compile(r"(?:^|\.)s3[.-]([a-z]{2,}-[a-z0-9-]+)\.")


def preset_of(provider: Provider, endpoint: str) -> Preset:
    """That of *provider*; ``auto``: of the store whose name the endpoint has, without one AWS."""
    if provider != "auto":
        return PRESETS[provider]
    host = urlsplit(endpoint).hostname or "amazonaws.com"
    return PRESETS[next((name for domain, name in _HOSTS if host == domain or host.endswith("." + domain)), "other")]


def region_of(endpoint: str, preset: Preset) -> str:
    """The region that the endpoint names, else the preset's."""
    found = _REGION.search(urlsplit(endpoint).hostname or "")
    return found[1] if found else preset.region


@cache
def _session() -> Any:
    """One for all clients of this process: each would read the description of S3 again, a second of CPU."""
    import boto3

    return boto3.session.Session()


def connect(
    *, endpoint: str, region: str, key_id: str, secret: str, preset: Preset, ca_file: str, connections: int
) -> Any:
    """A client of boto3's; threads may share it. Nothing is sent yet."""
    from botocore.config import Config

    if ca_file and not Path(ca_file).is_file():
        raise ConfigError(f"the certificate file {ca_file} is not there", "Correct ca_file, or leave it empty.")
    config = Config(
        region_name=region,
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        tcp_keepalive=True,
        max_pool_connections=connections,
        retries={"mode": "standard", "total_max_attempts": _TRIES},
        # By default boto3 sends headers that only AWS knows (T21); each body goes with its MD5 instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if preset.path_style else "auto"},
        ignore_configured_endpoint_urls=True,
    )
    client = _session().client(
        "s3",
        endpoint_url=endpoint or None,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        verify=ca_file or True,
        config=config,
    )
    client.meta.events.register_first("needs-retry.s3", wait_as_told)
    return client


def wait_as_told(
    *, response: tuple[Any, Any] | None, operation: Any, attempts: int, caught_exception: BaseException | None, **_: Any
) -> float | bool | None:
    """botocore asks whether to try again: seconds to wait first, False for no, None to leave it to its own rules.

    Its rules do not know ``Retry-After``. And it would put an object again whose answer was lost: in a bucket with
    versions that makes a second one, so the upload asks first whether the object is there (T03).
    """
    from botocore.exceptions import SSLError

    if caught_exception is not None:
        return False if operation.name == "PutObject" or isinstance(caught_exception, SSLError) else None
    if response is None or response[0].status_code not in (429, 500, 502, 503, 504) or attempts >= _TRIES:
        return None
    told = response[0].headers.get("Retry-After", "")
    if told.isdecimal():
        return float(told) if int(told) <= _LONGEST_WAIT else False
    return random.random() * 2**attempts if response[0].status_code == 429 else None  # noqa: S311 - spread, no secret
