"""What a person types for a database: a URL, without a password in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import ValidationError

from vault.errors import ConfigError


@contextmanager
def understood(what: str, example: str) -> Iterator[None]:
    """What is wrong with a URL comes as a ``ConfigError``: the field that does not fit, or that it is not *what*."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ConfigError(f"the URL's {first['loc'][0]} will not do: {first['msg']}") from None
    except ValueError:
        raise ConfigError(f"this is not the URL of {what}", f"It looks like {example}") from None


def other_machine(host: str) -> str:
    """*host*, unless it is where whoever asks for it runs itself: its loopback, or the directory of a socket."""
    name = host.lower().rstrip(".")
    if not name or name.startswith("/") or name == "localhost" or name.endswith(".localhost"):
        return ""
    try:
        return "" if ip_address(name.partition("%")[0]).is_loopback else host
    except ValueError:
        return host


def split(url: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of *url*, and its parameters. Raises ``ValueError``."""
    parts = urlsplit(url)
    return parts, dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))


def split_database(
    url: str, schemes: Collection[str], parameters: Collection[str], elsewhere: str
) -> tuple[SplitResult, dict[str, str]]:
    """The same for a database, with one of *schemes* and no other *parameters*; a password belongs *elsewhere*."""
    parts, options = split(url)
    if parts.password is not None or "password" in options:
        raise no_password(f"Save the source (`backups source add` asks for the password), or put it into {elsewhere}.")
    if parts.scheme not in schemes or parts.fragment:
        raise ValueError(url)
    if set(options) - set(parameters):
        known = ", ".join(sorted(parameters))
        raise ConfigError("the URL has parameters that are not known here", f"Known are: {known}.")
    return parts, options


def no_password(remedy: str) -> ConfigError:
    """That one stands in a URL."""
    return ConfigError("a password does not belong into a URL on a command line: others can see it", remedy)
