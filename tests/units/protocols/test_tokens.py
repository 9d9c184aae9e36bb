"""Private channels: which JWTs are valid."""

import time
from typing import Any

import jwt
import pytest

from realtime.protocols import tokens
from realtime.protocols.closes import BAD_JWT, Refusal
from tests import jwts

SECRET = "s" * 64  # long enough for HS512, too
NOW, HOUR = int(time.time()), 3600


def signed(claims: Any, secret: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers or None)


def claims(**changed: Any) -> dict[str, Any]:
    return {"sub": "private-1", "exp": NOW + HOUR, **changed}


# Including tokens that a client cannot send over HTTP.
BAD = {
    **jwts.bad_jwts(SECRET, "private-1"),
    "half a surrogate pair": "\ud800",
    "a payload nested too deeply": jwts.sign(SECRET, b"[" * 100_000),
}


@pytest.mark.parametrize("token", [pytest.param(token, id=name) for name, token in BAD.items()])
def test_every_bad_token_is_refused_with_the_same_sentence(token: str) -> None:
    with pytest.raises(Refusal) as raised:
        tokens.verify(token, SECRET, "private-1")
    assert raised.value.close is BAD_JWT


def at(**seconds_from_now: float) -> str:
    return signed(claims(**{name: int(time.time()) + seconds for name, seconds in seconds_from_now.items()}))


@pytest.mark.parametrize(
    "times", [{"iat": 0}, {"iat": 8}, {"nbf": 8}, {"exp": -8}, {"exp": 0.5}, {"exp": 5, "iat": -5}]
)
def test_clocks_may_differ_by_ten_seconds(times: dict[str, float]) -> None:
    assert tokens.verify(at(**times), SECRET, "private-1").user is None


@pytest.mark.parametrize("times", [{"iat": 13}, {"nbf": 13}, {"exp": -10}, {"exp": -11}, {"exp": 60, "nbf": 13}])
def test_clocks_may_not_differ_by_more_than_ten_seconds(times: dict[str, float]) -> None:
    with pytest.raises(Refusal) as raised:
        tokens.verify(at(**times), SECRET, "private-1")
    assert raised.value.close is BAD_JWT


@pytest.mark.parametrize("channel_id", ["private-1", "1998", "-", "_"])
def test_a_token_is_valid_for_its_channel(channel_id: str) -> None:
    assert tokens.verify(signed(claims(sub=channel_id, aud="anybody", iss="us")), SECRET, channel_id).user is None


def test_a_number_stands_for_its_decimal_string() -> None:
    assert tokens.verify(signed(claims(sub=1998)), SECRET, "1998").user is None


@pytest.mark.parametrize("user", ["Ann", 7, {"id": 7}, ["a"], True, 0, ""])
def test_the_user_is_the_one_in_the_token(user: Any) -> None:
    assert tokens.verify(signed(claims(user=user)), SECRET, "private-1").user == user


def test_a_token_signed_here_is_valid_here_and_in_other_libraries() -> None:
    token = tokens.sign(SECRET, "private-1", 60, "Ann")
    assert tokens.verify(token, SECRET, "private-1").user == "Ann"
    decoded = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert decoded == {"sub": "private-1", "iat": decoded["iat"], "exp": decoded["iat"] + 60, "user": "Ann"}
