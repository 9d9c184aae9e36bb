"""PROTOCOL: Private channels. Which JWTs are valid."""

import base64
import json
import time
from typing import Any

import jwt
import pytest

from realtime import tokens
from realtime.closes import BAD_JWT, Refusal

SECRET = "s" * 64  # long enough for HS512, too
NOW, HOUR = int(time.time()), 3600


def signed(claims: Any, secret: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    return jwt.encode(claims, secret, algorithm=algorithm, headers=headers or None)


def claims(**changed: Any) -> dict[str, Any]:
    return {"sub": "private-1", "exp": NOW + HOUR, **changed}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in claims().items() if key != name}


def part(value: bytes | dict[str, Any]) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw(header: bytes | dict[str, Any], payload: bytes | dict[str, Any], signature: bytes = b"x") -> str:
    return f"{part(header)}.{part(payload)}.{part(signature)}"


def with_payload(payload: bytes) -> str:
    """A token whose signature is right, whatever the payload."""
    return jwt.PyJWS().encode(payload, SECRET, algorithm="HS256")


GOOD = signed(claims())
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")
RSA_LIKE = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----"

BAD = {
    "another secret": signed(claims(), "t" * 64),
    "an empty secret": raw({"alg": "HS256"}, claims(), b""),
    "HS384": signed(claims(), algorithm="HS384"),
    "HS512": signed(claims(), algorithm="HS512"),
    "none": signed(claims(), "", "none"),
    "None, spelt oddly": raw({"alg": "nOnE"}, claims(), b""),
    "none with the signature of another": f"{part({'alg': 'none'})}.{PAYLOAD}.{SIGNATURE}",
    "no algorithm": raw({"typ": "JWT"}, claims()),
    "RS256": raw({"alg": "RS256"}, claims()),
    "ES256": raw({"alg": "ES256"}, claims()),
    "an algorithm that is a list": raw({"alg": ["HS256"]}, claims()),  # type: ignore[dict-item]
    "an unknown critical header": signed(claims(), crit=["exp2"]),
    "a detached payload": signed(claims(), b64=False),
    "expired": signed(claims(exp=NOW - 60)),
    "expired a little more than the leeway": signed(claims(exp=NOW - tokens.LEEWAY_SECONDS - 2)),
    "no exp": signed(without("exp")),
    "exp is null": signed(claims(exp=None)),
    "exp is text": signed(claims(exp="soon")),
    "exp is a list": signed(claims(exp=[NOW + HOUR])),
    "exp is infinite": with_payload(b'{"sub":"private-1","exp":1e999}'),
    "exp is negative": signed(claims(exp=-1)),
    "not yet valid": signed(claims(nbf=NOW + HOUR)),
    "nbf is text": signed(claims(nbf="now")),
    "issued in the future": signed(claims(iat=NOW + HOUR)),
    "iat is text": signed(claims(iat="now")),
    "another channel": signed(claims(sub="private-2")),
    "a channel that it begins with": signed(claims(sub="private-")),
    "another case": signed(claims(sub="PRIVATE-1")),
    "white space": signed(claims(sub="private-1 ")),
    "no sub": signed(without("sub")),
    "sub is null": signed(claims(sub=None)),
    "sub is true": signed(claims(sub=True)),
    "sub is a list": signed(claims(sub=["private-1"])),
    "sub is a wildcard": signed(claims(sub="*")),
    "empty": "",
    "garbage": "garbage",
    "three dots": "...",
    "10 kB of garbage": "x" * 10_000,
    "10 kB of garbage in three parts": f"{'a' * 3333}.{'b' * 3333}.{'c' * 3333}",
    "not ASCII": "é.ü.😀",
    "NUL": "\0",
    "half a surrogate pair": "\ud800",
    "a changed payload": f"{HEADER}.{part(claims(user='root'))}.{SIGNATURE}",
    "a cut signature": GOOD[:-2],
    "no signature": f"{HEADER}.{PAYLOAD}.",
    "two parts": f"{HEADER}.{PAYLOAD}",
    "four parts": f"{GOOD}.x",
    "white space around it": f" {GOOD}",
    "a payload that is a list": with_payload(b"[]"),
    "a payload that is no JSON": with_payload(b"sub"),
    "a payload that is not UTF-8": with_payload(b"\xff"),
    "a payload nested too deeply": with_payload(b"[" * 100_000),
    "a number of too many digits": with_payload(b'{"sub":"private-1","exp":' + b"9" * 5000 + b"}"),
}


def test_more_than_forty_bad_tokens_are_tried() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize("token", [pytest.param(token, id=name) for name, token in BAD.items()])
def test_a_bad_token_is_refused_in_the_one_sentence(token: str) -> None:
    with pytest.raises(Refusal) as raised:
        tokens.verify(token, SECRET, "private-1")
    assert raised.value.close is BAD_JWT


@pytest.mark.parametrize(
    "seconds_from_now", [{"iat": 0}, {"iat": 5}, {"nbf": 5}, {"exp": -5}, {"exp": 0.5}, {"exp": 5, "iat": -5}]
)
def test_clocks_may_be_ten_seconds_apart(seconds_from_now: dict[str, float]) -> None:
    now = int(time.time())
    changed = {name: now + seconds for name, seconds in seconds_from_now.items()}
    assert tokens.verify(signed(claims(**changed)), SECRET, "private-1") is None


@pytest.mark.parametrize("channel_id", ["private-1", "1998", "-", "_"])
def test_a_token_is_valid_for_its_channel(channel_id: str) -> None:
    assert tokens.verify(signed(claims(sub=channel_id, aud="anybody", iss="us")), SECRET, channel_id) is None


def test_a_number_stands_for_its_decimal_string() -> None:
    assert tokens.verify(signed(claims(sub=1998)), SECRET, "1998") is None


@pytest.mark.parametrize("user", ["Ann", 7, {"id": 7}, ["a"], True, 0, ""])
def test_the_user_is_what_the_token_says(user: Any) -> None:
    assert tokens.verify(signed(claims(user=user)), SECRET, "private-1") == user


def test_a_token_that_is_made_here_is_valid_here_and_elsewhere() -> None:
    token = tokens.sign(SECRET, "private-1", 60, "Ann")
    assert tokens.verify(token, SECRET, "private-1") == "Ann"
    decoded = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert decoded == {"sub": "private-1", "iat": decoded["iat"], "exp": decoded["iat"] + 60, "user": "Ann"}
