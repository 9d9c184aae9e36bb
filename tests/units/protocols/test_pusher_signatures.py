"""Pusher's signatures, with the vectors that its documentation and its client libraries publish."""

import hashlib

import pytest

from realtime.protocols.pusher_signatures import (
    auth_text,
    is_current,
    matches_body,
    read_query,
    read_signed_query,
    sign,
    user_auth_text,
    verify,
    verify_request,
)

SECRET = "7ad3773142a6692b25b8"
KEY = "278d425bdf160c739803"
SOCKET = "1234.1234"
COMMON = f"auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0"
EVENT = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
BATCH = (
    b'{"batch":[{"channel":"a","name":"e1","data":"x"},{"channel":"b","name":"e2","data":"y","socket_id":"1234.1234"}]}'
)


@pytest.mark.parametrize(
    ("channel", "channel_data", "signature"),
    [
        ("private-foobar", None, "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"),
        (
            "presence-foobar",
            '{"user_id":10,"user_info":{"name":"Mr. Channels"}}',
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
        ),
        (
            "presence-foobar",
            '{"user_id":10,"user_info":{"name":"Mr. Pusher"}}',
            "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
        ),
        ("private-encrypted-foobar", None, "e6a18892d037c5d5e76a2265df4f086ffc38631605530dfd214aa5bff495f533"),
    ],
)
def test_subscriptions_are_signed_as_pusher_documents(channel: str, channel_data: str | None, signature: str) -> None:
    text = auth_text(SOCKET, channel, channel_data)
    assert sign(SECRET, text) == signature
    assert verify(SECRET, text, signature)


@pytest.mark.parametrize(
    ("secret", "socket_id", "user_data", "signature"),
    [
        (SECRET, SOCKET, '{"id":"12345"}', "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"),
        ("tofu", "1.1", '{"id":"ą§¶™€łü€ß£"}', "620494cee53d6c568b49598313194088afda37218f0d059af03c0c898ed61ff4"),
    ],
)
def test_users_are_signed_as_pusher_documents(secret: str, socket_id: str, user_data: str, signature: str) -> None:
    assert sign(secret, user_auth_text(socket_id, user_data)) == signature


def test_webhooks_are_signed_by_their_body() -> None:
    body = '{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}'
    assert sign(SECRET, body) == "c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf"


@pytest.mark.parametrize("signature", ["", "58df", "ż" * 64, "\ud800", "58DF8B" + "0" * 58])
def test_a_wrong_signature_is_only_wrong(signature: str) -> None:
    assert not verify(SECRET, auth_text(SOCKET, "private-foobar"), signature)


def test_a_text_that_is_not_unicode_is_only_wrong() -> None:
    assert not verify(SECRET, auth_text(SOCKET, "presence-foobar", "\ud800"), "0" * 64)


@pytest.mark.parametrize(
    ("method", "path", "query", "signature"),
    [
        (
            "POST",
            "/apps/3/events",
            f"{COMMON}&body_md5=ec365a775a4cd0599faeb73354201b6f",
            "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
        ),
        (
            "GET",
            "/apps/3/channels",
            f"{COMMON}&filter_by_prefix=presence-&info=user_count",
            "16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291",
        ),
        (
            "GET",
            "/apps/3/channels",
            f"{COMMON}&filter_by_prefix=presence-&info=user_count&body_md5=d41d8cd98f00b204e9800998ecf8427e",
            "f3f17c61ae491cc9085db68b22076e9b772e3bcb301659d655153ee3f9782aba",
        ),
        (
            "GET",
            "/apps/3/channels/presence-foobar/users",
            COMMON,
            "5567dd30e7f8575e66be615d2aac3f608a0c311c31ddab8513a278b022e9597e",
        ),
        (
            "POST",
            "/apps/3/batch_events",
            f"{COMMON}&body_md5=82f1ae821db7294062866cbdf9732e51",
            "a99454d8f385829c636bb7982b0d0ec4be0c0a736f72a65c5f89d58de432b112",
        ),
        (
            "POST",
            "/apps/3/users/12345/terminate_connections",
            f"{COMMON}&body_md5=99914b932bd37a50b983c5e7c90ae93b",
            "01fa634edeb0cae84115307cad5c23f65a46cd286461b1c89637a3b5871a8f0e",
        ),
    ],
)
def test_requests_are_signed_as_pusher_documents(method: str, path: str, query: str, signature: str) -> None:
    for sent in (f"{query}&auth_signature={signature}", f"auth_signature={signature}&{query}"):
        signed = read_signed_query(sent)
        assert verify_request([SECRET], method, [path], signed)
        assert verify_request(["new", SECRET], method, [path], signed)
        assert verify_request([SECRET], method, ["/as/it/was/sent", path], signed)
        assert not verify_request(["another"], method, [path], signed)
        assert not verify_request([SECRET], method, ["/apps/4/events"], signed)
        assert not verify_request([SECRET], method, [path], read_signed_query(f"{sent}&info=more"))
        assert not verify_request([], method, [path], signed)


@pytest.mark.parametrize(
    ("body", "md5"), [(EVENT, "ec365a775a4cd0599faeb73354201b6f"), (BATCH, "82f1ae821db7294062866cbdf9732e51")]
)
def test_a_body_is_identified_by_its_md5(body: bytes, md5: str) -> None:
    assert matches_body(md5, body)
    assert matches_body(md5.upper(), body)
    assert not matches_body(md5, body + b" ")


def test_only_an_empty_body_needs_no_md5() -> None:
    assert matches_body(None, b"")
    assert matches_body(hashlib.md5(b"").hexdigest(), b"")
    assert not matches_body(None, b"{}")
    assert not matches_body("ż", b"{}")


@pytest.mark.parametrize(
    ("query", "parameters"),
    [
        ("", {}),
        ("a=1&b=", {"a": "1", "b": ""}),
        ("Auth_Key=A&info=user_count", {"auth_key": "A", "info": "user_count"}),
        ("filter_by_prefix=presence-a%2Cb%3D%40&x=a=b", {"filter_by_prefix": "presence-a,b=@", "x": "a=b"}),
        ("filter_by_prefix=presence-a,b=@;", {"filter_by_prefix": "presence-a,b=@;"}),
        ("info[]=a&info[]=b", {"info": "a,b"}),
        ("info%5B0%5D=a&info%5B1%5D=b", {"info": "a,b"}),
        ("a=1&a=2", {"a": "2"}),
        ("a=%ff", {"a": "�"}),
    ],
)
def test_queries_are_read_as_client_libraries_write_them(query: str, parameters: dict[str, str]) -> None:
    assert read_query(query) == parameters


def test_the_parameters_of_a_request_are_signed_unescaped_and_sorted() -> None:
    query = read_signed_query("info=x&auth_signature=1&filter_by_prefix=a%20b&Auth_Key=K")
    assert query.signed == "auth_key=K&filter_by_prefix=a b&info=x"


USUAL = "auth_key=K&auth_timestamp=1&auth_version=1.0&body_md5=0f"


@pytest.mark.parametrize(
    ("query", "signed"),
    [
        (f"{USUAL}&auth_signature=0a", USUAL),
        (f"auth_key=K&auth_signature=0a&{USUAL.removeprefix('auth_key=K&')}", USUAL),
        (f"{USUAL}&auth_signature=", USUAL),
        (f"{USUAL}&auth_signature=0a&auth_signature=0b", USUAL),
        (f"{USUAL}&auth_signature=0a&", USUAL),
        (f"{USUAL}&auth_signature=0a&body_md5=1e", USUAL.replace("0f", "1e")),
        (f"{USUAL}&auth_signature=0a\n", USUAL),
        (f"{USUAL}&auth_signature=%30a", USUAL),
        (f"{USUAL.replace('=1&', '=٣&')}&auth_signature=0a", USUAL.replace("=1&", "=٣&")),
        (f"{USUAL.replace('K', 'K+L')}&auth_signature=0a", USUAL.replace("K", "K L")),
        (f"{USUAL.replace('K', 'ż')}&auth_signature=0a", USUAL.replace("K", "ż")),
    ],
)
def test_a_query_in_the_usual_order_means_the_same_as_in_any_other(query: str, signed: str) -> None:
    assert read_signed_query(query) == (read_query(query), signed)


@pytest.mark.parametrize(
    ("timestamp", "current"),
    [
        ("1353088179", True),
        ("1353087579", True),
        ("1353088779", True),
        ("1353087578", False),
        ("1353088780", False),
        ("", False),
        ("now", False),
        ("-1", False),
        ("1353088179.5", False),
        ("¹", False),
        ("9" * 5000, False),
    ],
)
def test_a_timestamp_is_valid_for_ten_minutes(timestamp: str, *, current: bool) -> None:
    assert is_current(timestamp, 1353088179) is current
