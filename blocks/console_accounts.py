"""Who may use the console: accounts, tokens and the key that signs its sessions, kept in one Block."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, Literal, TypeVar

from prefect.blocks.core import Block
from prefect.exceptions import ObjectAlreadyExists
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, HttpUrl, SecretStr, ValidationError, model_validator

from blocks.loading import load, missing, problems
from blocks.look import DOCUMENTATION_URL, LOGO_URL
from blocks.passwords import digest, hashed, new_token
from blocks.turns import set_limit, turn
from vault.errors import ConfigError
from vault.store import NAME_PATTERN, check_name

Scope = Literal["read", "operate", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "operate", "admin")
"""``read`` looks, ``operate`` backs up, restores and deletes, ``admin`` configures. Each includes those before it."""
ACCOUNTS_SLUG, DOCUMENT = "backup-console", "console"
LONGEST_TOKEN = timedelta(days=3660)
_TURN = "backups-console-accounts"
_Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_alone = threading.Lock()
_Made = TypeVar("_Made")


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Account(_Kept):
    """A person. Sessions are of one *generation*: a new one ends them all."""

    name: _Name
    scope: Scope
    password: str = Field(repr=False, pattern=r"^scrypt\$\d+\$\d+\$\d+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$")
    generation: str
    created: AwareDatetime


class Token(_Kept):
    """A script. Of the token itself only a SHA-256 is kept."""

    name: _Name
    scope: Scope
    sha256: str = Field(repr=False, pattern="^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None

    def valid(self, now: datetime) -> bool:
        """Whether it still counts."""
        return self.expires is None or now < self.expires


class Held(_Kept):
    """All of them, by name, and the sessions that were ended before their time, each with that time."""

    accounts: dict[str, Account] = {}
    tokens: dict[str, Token] = {}
    ended: dict[str, AwareDatetime] = {}


class ConsoleAccounts(Block):
    """
    Who may use the console of the backups. It is changed by `backups console user` and `backups console token`.

    Attributes:
        session_key: What signs the sessions of the console. Another one ends them all.
        held: The accounts and tokens, as JSON: hashes only.

    Example:
        See who there is:
        ```python
        from blocks.console_accounts import read

        read().held.accounts
        ```
    """

    _block_type_name: ClassVar[str | None] = "Backup Console Accounts"
    _block_type_slug: ClassVar[str | None] = ACCOUNTS_SLUG
    _documentation_url: ClassVar[HttpUrl | None] = DOCUMENTATION_URL
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL

    session_key: SecretStr = Field(description="What signs the sessions of the console. Another one ends them all.")
    held: SecretStr = Field(default=SecretStr("{}"), description="The accounts and tokens, as JSON: hashes only.")

    @model_validator(mode="after")
    def _is_whole(self) -> ConsoleAccounts:
        if len(self.session_key.get_secret_value()) < 32:
            raise ValueError("the session key has less than 32 characters")
        self.unpacked()
        return self

    def unpacked(self) -> Held:
        """What ``held`` says; ``ValueError`` where that is nothing that we wrote."""
        try:
            return Held.model_validate_json(self.held.get_secret_value())
        except ValidationError as error:
            raise ValueError(f"held: {problems(error)}") from None

    @classmethod
    def make(cls) -> ConsoleAccounts:
        """Nobody yet, and a new session key."""
        return cls(session_key=SecretStr(secrets.token_urlsafe(48)))


def read() -> tuple[str, Held]:
    """The session key, and who there is. Before anybody was added: an empty key, and nobody."""
    if missing(_ref()):
        return "", Held()
    block = load(_ref(), ConsoleAccounts)
    return block.session_key.get_secret_value(), block.unpacked()


def add_account(name: str, password: str, scope: Scope) -> Account:
    """Add an account; ``ConfigError`` where there is one of that name, or the password is too short."""
    account = _account(check_name(name, "account"), password, scope)

    def added(held: Held) -> tuple[Held, Account]:
        if name in held.accounts:
            raise ConfigError(f"there is an account {name} already", "Give it another password, or remove it first.")
        return _with(held, account), account

    return _change(added)


def change_password(name: str, password: str) -> Account:
    """Give *name* another password, which ends his sessions."""
    new = hashed(password)

    def changed(held: Held) -> tuple[Held, Account]:
        before = _found(held, name)
        account = before.model_copy(update={"password": new, "generation": secrets.token_hex(16)})
        return _with(held, account), account

    return _change(changed)


def remove_account(name: str) -> Account:
    """Take the account away, and its sessions with it."""

    def removed(held: Held) -> tuple[Held, Account]:
        gone = _found(held, name)
        left = {key: one for key, one in held.accounts.items() if key != name}
        return held.model_copy(update={"accounts": left}), gone

    return _change(removed)


def add_token(name: str, scope: Scope, expires: datetime | None) -> str:
    """A new token, which is returned once and kept nowhere; ``ConfigError`` where the name is taken."""
    secret, now = new_token(), datetime.now(UTC)
    if expires is not None and not now < expires <= now + LONGEST_TOKEN:
        raise ConfigError("a token expires in the future, and within ten years", "Or never, if you say so.")
    checked = check_name(name, "token")
    token = Token(name=checked, scope=scope, sha256=digest(secret), created=now, expires=expires)

    def added(held: Held) -> tuple[Held, str]:
        if name in held.tokens:
            raise ConfigError(f"there is a token {name} already", "Revoke it first, or take another name.")
        return held.model_copy(update={"tokens": {**held.tokens, name: token}}), secret

    return _change(added)


def revoke_token(name: str) -> Token:
    """Take the token away."""

    def removed(held: Held) -> tuple[Held, Token]:
        gone = held.tokens.get(name)
        if gone is None:
            raise ConfigError(f"there is no token {check_name(name, 'token')}", "See `backups console token list`.")
        left = {key: one for key, one in held.tokens.items() if key != name}
        return held.model_copy(update={"tokens": left}), gone

    return _change(removed)


def end_session(session: str, until: datetime) -> None:
    """Note that *session* has ended, which by itself would have lasted *until* then at most."""

    def noted(held: Held) -> tuple[Held, None]:
        now = datetime.now(UTC)
        left = {key: one for key, one in held.ended.items() if one > now}
        return held.model_copy(update={"ended": {**left, session: until}}), None

    _change(noted)


def _change(step: Callable[[Held], tuple[Held, _Made]]) -> _Made:
    """Save what *step* makes of what is saved; of several that do so at once, here or elsewhere, none is lost."""
    with suppress(ObjectAlreadyExists):  # somebody else has made it meanwhile
        set_limit(_TURN, 1)
    with _alone, turn([_TURN]):
        block = ConsoleAccounts.make() if missing(_ref()) else load(_ref(), ConsoleAccounts)
        held, made = step(block.unpacked())
        block.held = SecretStr(held.model_dump_json())
        block.save(DOCUMENT, overwrite=True)
    return made


def _ref() -> str:
    return f"{ACCOUNTS_SLUG}/{DOCUMENT}"


def _account(name: str, password: str, scope: Scope) -> Account:
    generation = secrets.token_hex(16)
    return Account(name=name, scope=scope, password=hashed(password), generation=generation, created=datetime.now(UTC))


def _with(held: Held, account: Account) -> Held:
    return held.model_copy(update={"accounts": {**held.accounts, account.name: account}})


def _found(held: Held, name: str) -> Account:
    account = held.accounts.get(name)
    if account is None:
        raise ConfigError(f"there is no account {check_name(name, 'account')}", "See `backups console user list`.")
    return account
