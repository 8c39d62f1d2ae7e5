"""A URL with a password in it, in whatever spelling, is known before it goes anywhere."""

from __future__ import annotations

import pytest

from vault.errors import ConfigError
from vault.urls import refuse_password, scheme_of

WITH_PASSWORD = [
    "postgresql://u:SECRET@h/d",
    "postgresql://u:SEC/RET@h/d",
    "mysql://a@b:SECRET@h/d",
    "MySQL://u:SECRET@h/d",
    "POSTGRESQL://:SECRET@h/d",
    "postgresql://u:@h/d",
    "postgresql:///u:SECRET@h/d",
    "postgresql:/u:SECRET@h/d",
    "redis://u:SEC?RET@h",
    "redis://u:SEC#RET@h",
    "u:SECRET@h/d",
    "postgresql://u@h/d?password=SECRET",
    "postgresql://u@h/d?PASSWORD=SECRET",
    "postgresql://u@h/d?sslmode=require&PassWord=SECRET",
    "postgresql://u@h/d?%70assword=SECRET",
    "mysql://u@h/d?sslpassword=SECRET",
    "mysql://u@h/d?PWD=SECRET",
    "sqlite://u:SECRET@h/d",
]
WITHOUT = [
    "postgresql://shop@localhost:5432/shop?sslmode=require",
    "postgresql://shop@[::1]:5432/shop",
    "postgresql:///shop?host=/run/postgresql",
    "mysql://h:3306/shop",
    "redis:///run/redis.sock",
    "docker-volume:shop-data",
    "/srv/a:b@c",
    "./a:b@c",
    "sqlite:///srv/a:b@c.sqlite",
    "restored",
]


@pytest.mark.law(10)
@pytest.mark.fault("O08", "O12")
@pytest.mark.parametrize("text", WITH_PASSWORD)
def test_a_password_in_a_url_is_refused_however_it_is_spelled_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="password") as caught:
        refuse_password(text)
    assert "SEC" not in repr(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("text", WITHOUT)
def test_what_holds_no_password_passes(text: str) -> None:
    refuse_password(text)


@pytest.mark.parametrize(
    ("text", "scheme"), [("MySQL://h", "mysql"), ("a+b://", "a+b"), ("/x://y", ""), ("docker-volume:x", ""), ("x", "")]
)
def test_a_scheme_is_known_in_upper_case_too(text: str, scheme: str) -> None:
    assert scheme_of(text) == scheme
