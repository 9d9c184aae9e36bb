"""Who may subscribe and sign in with Pusher's protocol: the test vectors of its documentation and of its libraries."""

import json
from dataclasses import replace
from typing import Any

import pytest

from realtime.protocols.pusher_frames import SignIn, Subscribe
from realtime.protocols.pusher_users import Denied, Permission, User, authorize, sign_in
from tests.sockets.pusher import signature as sign
from tests.units.protocols.test_admission import ACCESS

KEY, SECRET, SOCKET = "278d425bdf160c739803", "7ad3773142a6692b25b8", "1234.1234"
APP = replace(ACCESS, public_key=KEY, secret=SECRET)
PRIVATE = "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
ENCRYPTED = "e6a18892d037c5d5e76a2265df4f086ffc38631605530dfd214aa5bff495f533"
PRESENCE = "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80"
MEMBER = '{"user_id":10,"user_info":{"name":"Mr. Channels"}}'
SIGN_IN = "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"


def request(channel: str, signature: str = "", channel_data: str | None = None) -> Subscribe:
    return Subscribe(channel, f"{KEY}:{signature}" if signature else None, channel_data)


@pytest.mark.parametrize(
    ("channel", "signature"), [("private-foobar", PRIVATE), ("private-encrypted-foobar", ENCRYPTED)]
)
def test_a_private_channel_needs_its_signature(channel: str, signature: str) -> None:
    assert authorize(APP, SOCKET, request(channel, signature), None) == Permission(SECRET, None)
    for wrong in (request(channel), request(f"{channel}x", signature), request(channel, signature[:-1])):
        with pytest.raises(Denied):
            authorize(APP, SOCKET, wrong, None)
    with pytest.raises(Denied):
        authorize(APP, "1234.1235", request(channel, signature), None)


def test_a_presence_channel_needs_the_signature_of_its_member() -> None:
    secret, identity, _ = authorize(APP, SOCKET, request("presence-foobar", PRESENCE, MEMBER), None)
    assert identity is not None
    assert (secret, identity.uuid, identity.json) == (SECRET, "10", '{"name":"Mr. Channels"}')
    for other in (MEMBER.replace("10", "11"), MEMBER + " ", None):
        with pytest.raises(Denied):
            authorize(APP, SOCKET, request("presence-foobar", PRESENCE, other), None)


def test_a_user_signs_in_and_only_that_user_has_the_channel() -> None:
    user, secret = sign_in(APP, SOCKET, SignIn(f"{KEY}:{SIGN_IN}", '{"id":"12345"}'))
    assert (user, secret) == (User("12345", None), SECRET)
    assert authorize(APP, SOCKET, request("#server-to-user-12345"), user) == Permission(None, None)
    for channel, somebody in (("#server-to-user-12345", None), ("#server-to-user-1", user)):
        with pytest.raises(Denied):
            authorize(APP, SOCKET, request(channel), somebody)


def test_a_user_may_have_any_characters() -> None:
    signature = "620494cee53d6c568b49598313194088afda37218f0d059af03c0c898ed61ff4"
    user, _ = sign_in(replace(APP, secret="tofu"), "1.1", SignIn(f"{KEY}:{signature}", '{"id":"ą§¶™€łü€ß£"}'))
    assert user.id == "ą§¶™€łü€ß£"


def test_the_old_secret_is_valid_until_it_ends_and_is_the_one_that_is_reported() -> None:
    rotated = replace(APP, secret="new", old_secret=SECRET, old_secret_ends_at=1e12)
    assert authorize(rotated, SOCKET, request("private-foobar", PRIVATE), None).secret == SECRET
    with pytest.raises(Denied):
        authorize(replace(rotated, old_secret_ends_at=0), SOCKET, request("private-foobar", PRIVATE), None)


def test_a_key_that_protects_all_channels_allows_no_public_ones() -> None:
    protecting = replace(APP, protects_channels=True)
    assert authorize(APP, SOCKET, request("news"), None) == Permission(None, is_proven=False)
    with pytest.raises(Denied):
        authorize(protecting, SOCKET, request("news"), None)
    assert authorize(protecting, SOCKET, request("private-foobar", PRIVATE), None).secret == SECRET


@pytest.mark.parametrize("data", ["", "x", "[]", "null", '{"id":1}', '{"id":null}', "{}", '{"id":"' + "x" * 129 + '"}'])
def test_a_sign_in_that_names_no_user_is_denied(data: Any) -> None:
    with pytest.raises(Denied):
        sign_in(APP, SOCKET, SignIn(f"{KEY}:{sign(SECRET, f'{SOCKET}::user::{data}')}", data))


@pytest.mark.parametrize(
    ("watchlist", "watched", "is_longer"),
    [
        (["1", "2", "1", 3, "", None, "x" * 129], ("1", "2"), False),
        ("12", (), False),
        ([str(number) for number in range(101)], tuple(map(str, range(100))), True),
    ],
)
def test_a_watchlist_has_each_user_once_and_at_most_a_hundred(
    watchlist: Any, watched: tuple[str, ...], is_longer: bool
) -> None:
    data = json.dumps({"id": "7", "watchlist": watchlist})
    user, _ = sign_in(APP, SOCKET, SignIn(f"{KEY}:{sign(SECRET, f'{SOCKET}::user::{data}')}", data))
    assert (user.watchlist, user.has_longer_watchlist) == (watched, is_longer)


def test_no_representation_contains_the_secret() -> None:
    permission = authorize(APP, SOCKET, request("presence-foobar", PRESENCE, MEMBER), None)
    assert permission.secret == SECRET
    assert SECRET not in repr(permission)


def test_a_user_info_with_too_many_levels_is_refused_like_one_that_is_too_long() -> None:
    for levels in range(520, 1_100):
        member = f'{{"user_id":"1","user_info":{"[" * levels}{"]" * levels}}}'
        signature = sign(SECRET, f"{SOCKET}:presence-foobar:{member}")
        with pytest.raises(Denied):
            authorize(APP, SOCKET, request("presence-foobar", signature, member), None)
