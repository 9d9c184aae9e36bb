"""From a handshake to an admission or a refusal."""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from accounts.key_access import KeyAccess, Quotas
from realtime.protocols import closes, tokens
from realtime.protocols.admission import Admission, Proof, Target, admit, end_of, read_v3
from realtime.protocols.closes import Close, Refusal
from realtime.protocols.handshake import cluster_of, parse_options, parse_request

KEY = "k" * 60
ACCESS = KeyAccess(
    public_key=KEY,
    account_id=1,
    cluster_pk=2,
    cluster_id="demo",
    revoked=False,
    cluster_enabled=True,
    account_suspended=False,
    protects_channels=False,
    allows_client_messages=True,
    closes_expired_connections=False,
    allowed_origins=(),
    quotas=Quotas(
        account_connections=10,
        key_connections=10,
        message_bytes=None,
        messages_per_second=100,
        messages_per_day=1000,
    ),
    secret="s" * 60,
)
Find = Callable[[str], Awaitable[KeyAccess | None]]


def scope(path: str = "/v3/1", query: str = f"api_key={KEY}", **headers: str) -> dict[str, Any]:
    given = {"host": "demo.localhost:8000", **headers}
    return {
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }


def lookup_in(*keys: KeyAccess) -> Find:
    async def find(public_key: str) -> KeyAccess | None:
        return next((key for key in keys if key.public_key == public_key), None)

    return find


async def admitted(request: dict[str, Any], access: KeyAccess = ACCESS) -> Admission:
    return await admit(read_v3(request, ["localhost"]), lookup_in(access))


async def target(request: dict[str, Any]) -> Target:
    found = (await admitted(request)).target
    assert found is not None
    return found


async def refused(request: dict[str, Any], access: KeyAccess = ACCESS) -> Close:
    with pytest.raises(Refusal) as raised:
        await admitted(request, access)
    return raised.value.close


@pytest.mark.parametrize(
    ("path", "group", "channel_path"),
    [
        ("/v3/1", "channel.demo.1", "1"),
        ("/v3/1/", "channel.demo.1", "1"),
        ("/v3/1/1998", "channel.demo.1.1998", "1/1998"),
        ("/v3/1/1998/", "channel.demo.1.1998", "1/1998"),
        ("/v3/2/1998", "channel.demo.2.1998", "2/1998"),
        ("/v3/1998", "channel.demo.1998", "1998"),
        ("/v3/A-_z", "channel.demo.A-_z", "A-_z"),
    ],
)
async def test_a_path_names_a_channel(path: str, group: str, channel_path: str) -> None:
    admission = await admitted(scope(path))
    assert admission.target is not None
    assert (admission.target.group, admission.channel[1]) == (group, channel_path)


async def test_the_longest_names_have_distinct_groups_that_layers_accept() -> None:
    groups = [
        (await target(scope(path))).group
        for path in (f"/v3/{'a' * 128}/{'b' * 128}", f"/v3/{'a' * 128}/{'b' * 127}c", f"/v3/{'a' * 128}")
    ]
    assert len(set(groups)) == 3
    assert all(len(group) < 100 for group in groups)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/v3", "/v3/", "/v3//", "/v3//a", "/v3/a//", "/v3/a/b/c", "/v2/a", "/v3/a b", "/v3/a$", "/v3/a\n"),
        *("/v3/é", "/v3/٣", "/v3/a.b", f"/v3/{'a' * 129}", f"/v3/{'a' * 129}/b", f"/v3/a/{'b' * 129}", "/x/v3/a"),
    ],
)
async def test_any_other_path_is_refused(path: str) -> None:
    assert (await refused(scope(path))).code == 4000


@pytest.mark.parametrize("flag", ["", "=", "=1", "=true", "=TRUE", "=Yes", "=on", "=%31"])
async def test_these_spellings_turn_a_flag_on(flag: str) -> None:
    assert (await target(scope(query=f"api_key={KEY}&notify_self{flag}"))).notify_self


@pytest.mark.parametrize("flag", ["&notify_self=0", "&notify_self=false", "&notify_self=No", "&notify_self=OFF", ""])
async def test_these_spellings_leave_a_flag_off(flag: str) -> None:
    assert not (await target(scope(query=f"api_key={KEY}{flag}"))).notify_self


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("notify_self=maybe", "notify_self"),
        ("notify_self=2", "notify_self"),
        ("presence=perhaps", "presence"),
        ("uuid=", "uuid"),
        (f"uuid={'u' * 65}", "uuid"),
        (f"user={'u' * 257}", "user"),
    ],
)
async def test_an_invalid_option_is_refused_by_name(query: str, named: str) -> None:
    close = await refused(scope(query=f"api_key={KEY}&{query}"))
    assert close.code == 4000
    assert named in close.sentence


@pytest.mark.parametrize(
    "query",
    [
        f"api_key={KEY}",
        f"apiKey={KEY}",
        f"source=jssdk&v=5.0.8&api_key={KEY}&presence=0&uuid=u",
        f"api_key={KEY}&user=%ff%zz&x=%&=&&;&y",
        f"api_key={KEY}&api_key=second",
        f"api_key={KEY}&uuid={'u' * 64}&user={'u' * 256}",
    ],
)
async def test_a_key_is_found_under_both_names_among_other_options(query: str) -> None:
    assert (await admitted(scope(query=query))).access is ACCESS


def test_bare_parameters_are_kept_and_the_first_of_repeated_ones_wins() -> None:
    assert parse_options(b"a&b=&a=2&c=1%202&c=3") == {"a": "", "b": "", "c": "1 2"}


@pytest.mark.parametrize(
    ("host", "cluster"),
    [
        ("demo.localhost", "demo"),
        ("demo.localhost:8000", "demo"),
        ("DEMO.LocalHost.", "demo"),
        ("demo.example.com:443", "demo"),
        ("a.demo.localhost", None),
        ("localhost", None),
        ("127.0.0.1:8000", None),
        ("[::1]:8000", None),
        ("ws.customer.org", None),
        ("", None),
    ],
)
def test_the_host_names_a_cluster_when_the_rest_is_a_cluster_domain(host: str, cluster: str | None) -> None:
    assert cluster_of(host, ["localhost", "example.com"]) == cluster


async def test_if_the_host_names_no_cluster_the_key_determines_it() -> None:
    assert (await target(scope(host="127.0.0.1:8000"))).group == "channel.demo.1"


@pytest.mark.parametrize(
    ("request_scope", "access"),
    [
        (scope(query=""), ACCESS),
        (scope(query="api_key="), ACCESS),
        (scope(query="api_key=unknown"), ACCESS),
        (scope(), replace(ACCESS, revoked=True)),
        (scope(host="other.localhost"), ACCESS),
        (scope(host="none.localhost"), ACCESS),
    ],
)
async def test_every_bad_key_gets_the_same_refusal(request_scope: dict[str, Any], access: KeyAccess) -> None:
    assert await refused(request_scope, access) == closes.BAD_KEY


@pytest.mark.parametrize(
    ("change", "close"),
    [
        ({"account_suspended": True}, closes.ACCOUNT_SUSPENDED),
        ({"cluster_enabled": False}, closes.CLUSTER_OFF),
        ({"account_suspended": True, "revoked": True}, closes.BAD_KEY),
        ({"protects_channels": True}, closes.BAD_JWT),
        ({"allowed_origins": ("example.com",)}, closes.BAD_ORIGIN),
    ],
)
async def test_a_valid_key_can_still_be_refused(change: dict[str, Any], close: Close) -> None:
    request = scope(origin="https://elsewhere.org")
    assert await refused(request, replace(ACCESS, **change)) == close


@pytest.mark.parametrize("path", ["/v3/private-chat", "/v3/space/private-chat", "/v3/private-space/chat"])
async def test_a_private_channel_requires_a_jwt(path: str) -> None:
    assert await refused(scope(path)) == closes.BAD_JWT
    assert Close(4009, "bad_jwt", "Authentication failed, provide valid jwt token.") == closes.BAD_JWT


def jwt_for(channel_id: str, secret: str = "s" * 60, user: str | None = None) -> str:
    return tokens.sign(secret, channel_id, 3600, user)  # an hour, since some are signed when the tests are collected


@pytest.mark.parametrize("where", ["query", "header"])
@pytest.mark.parametrize("path", ["private-chat", "space/private-chat", "private-space/chat"])
async def test_a_jwt_opens_a_private_channel_from_the_query_or_a_header(where: str, path: str) -> None:
    jwt = jwt_for(path)
    sent = {"jwt": jwt} if where == "header" else {"query": f"api_key={KEY}&jwt={jwt}"}
    assert (await admitted(scope(f"/v3/{path}", **sent))).proof


async def test_a_jwt_for_a_channel_id_opens_no_channel_of_that_id_in_a_namespace() -> None:
    assert await refused(scope("/v3/space/private-chat", jwt=jwt_for("private-chat"))) == closes.BAD_JWT


async def test_a_jwt_opens_a_channel_of_a_key_that_protects_all_channels() -> None:
    protected = replace(ACCESS, protects_channels=True)
    assert (await admitted(scope(jwt=jwt_for("1")), protected)).proof
    assert await refused(scope(), protected) == closes.BAD_JWT


async def test_during_an_overlap_a_jwt_of_either_secret_opens_a_channel() -> None:
    access = replace(ACCESS, old_secret="o" * 60, old_secret_ends_at=time.time() + 60)
    for secret in ("s" * 60, "o" * 60):
        proof = (await admitted(scope(jwt=jwt_for("1", secret)), access)).proof
        assert proof is not None
        assert proof.secret == secret
    assert await refused(scope(jwt=jwt_for("1", "x" * 60)), access) == closes.BAD_JWT


async def test_after_an_overlap_a_jwt_of_the_old_secret_opens_nothing() -> None:
    access = replace(ACCESS, old_secret="o" * 60, old_secret_ends_at=time.time())
    assert await refused(scope(jwt=jwt_for("1", "o" * 60)), access) == closes.BAD_JWT


async def test_a_key_that_closes_expired_connections_opens_none() -> None:
    """Other keys admit a JWT for ten more seconds, since clocks differ."""
    jwt = tokens.sign("s" * 60, "1", -2)
    assert (await admitted(scope(jwt=jwt))).proof
    assert await refused(scope(jwt=jwt), replace(ACCESS, closes_expired_connections=True)) == closes.BAD_JWT


@pytest.mark.parametrize(
    ("change", "secret", "end"),
    [
        ({}, "s", math.inf),
        ({}, "o", 1000),
        ({}, "other", 0),
        ({"closes_expired_connections": True}, "s", 2000),
        ({"closes_expired_connections": True}, "o", 1000),
        ({"closes_expired_connections": True, "old_secret_ends_at": 3000}, "o", 2000),
        ({"secret": None}, "other", math.inf),
    ],
)
def test_a_connection_ends_with_its_secret_and_if_the_key_says_so_with_its_jwt(
    change: dict[str, Any], secret: str, end: float
) -> None:
    access = replace(ACCESS, **{"secret": "s", "old_secret": "o", "old_secret_ends_at": 1000, **change})
    assert end_of(access, Proof(secret, expires_at=2000)) == end


@pytest.mark.parametrize("sent", [{"query": f"api_key={KEY}&jwt=x"}, {"query": f"api_key={KEY}&jwt"}, {"jwt": "x"}])
async def test_an_invalid_jwt_is_refused_even_where_none_is_required(sent: dict[str, str]) -> None:
    assert await refused(scope(**sent)) == closes.BAD_JWT


async def test_no_jwt_is_valid_for_a_key_whose_secret_is_lost() -> None:
    assert await refused(scope(jwt=jwt_for("1")), replace(ACCESS, secret=None)) == closes.BAD_JWT


@pytest.mark.parametrize(
    ("path", "option", "on"),
    [
        ("/v3/1", "", False),
        ("/v3/1", "&presence=0", False),
        ("/v3/1", "&presence", True),
        ("/v3/1", "&presence=1", True),
        ("/v3/presence-1", "", True),
        ("/v3/space/presence-1", "", True),
        ("/v3/presence-1", "&presence=0", True),
        ("/v3/presence-space/1", "", False),
    ],
)
async def test_presence_is_turned_on_by_the_flag_or_by_the_channel(path: str, option: str, on: bool) -> None:
    assert ((await target(scope(path, f"api_key={KEY}{option}"))).identity is not None) == on


@pytest.mark.parametrize(
    ("options", "jwt_user", "shown"),
    [
        ("", None, '{"uuid":"u","user":"anonymous"}'),
        ("&user=", None, '{"uuid":"u","user":"anonymous"}'),
        ("&user=Ann%20%C3%A9+%F0%9F%98%80%22", None, '{"uuid":"u","user":"Ann é 😀\\""}'),
        ("&user=Ann", "Bob", '{"uuid":"u","user":"Bob"}'),
        ("&user=Ann", 7, '{"uuid":"u","user":7}'),
        ("", {"id": 7, "roles": []}, '{"uuid":"u","user":{"id":7,"roles":[]}}'),
        ("", "\ud800", '{"uuid":"u","user":"\\ud800"}'),
    ],
)
async def test_the_user_of_a_member_is_the_one_in_its_jwt_or_else_in_its_url(
    options: str, jwt_user: Any, shown: str
) -> None:
    signed = {} if jwt_user is None else {"jwt": jwt_for("1", user=jwt_user)}
    identity = (await target(scope(query=f"api_key={KEY}&presence&uuid=u{options}", **signed))).identity
    assert identity is not None
    assert identity.json == shown


async def test_a_jwt_whose_user_json_cannot_represent_is_not_valid() -> None:
    request = scope(query=f"api_key={KEY}&presence", jwt=jwt_for("1", user=math.nan))  # type: ignore[arg-type]
    assert await refused(request) == closes.BAD_JWT


async def test_a_member_without_a_uuid_gets_a_unique_one() -> None:
    request = scope(query=f"api_key={KEY}&presence")
    uuids = [identity.uuid for _ in "ab" if (identity := (await target(request)).identity)]
    assert len(set(uuids)) == 2


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://example.com", True),
        ("http://EXAMPLE.com:8080", True),
        ("https://app.example.org", True),
        ("https://a.b.example.org", True),
        ("http://localhost:3000", True),
        ("http://localhost:3001", False),
        ("https://example.org", False),
        ("https://app.example.com", False),
        ("https://evilexample.org", False),
        ("https://example.com.evil.net", False),
        ("https://example.com:65535", True),
        ("https://a.example.net:8443", True),
        ("https://a.example.net:8444", False),
        ("https://a.example.net", False),
        ("https://example.com.", False),
        ("https://example.com@evil.net", False),
        ("https://evil.net@example.com", False),
        ("https://evil.net:x@example.com", False),
        (r"https://evil.net\@example.com", False),
        ("https://evil.net/https://example.com", False),
        ("https://evil.net?example.com", False),
        ("https://evil.net#example.com", False),
        ("https://evil.net https://example.com", False),
        ("https://example.com/", False),
        ("https://example.com:x", False),
        ("//example.com", False),
        ("example.com", False),
        ("null", False),
        ("NULL", False),
        ("", False),
        ("http://", False),
        ("http://[", False),
        ("http://*.example.org", False),
        ("file://", False),
    ],
)
async def test_origins_are_matched_by_host_and_wildcard(origin: str, allowed: bool) -> None:
    access = replace(ACCESS, allowed_origins=("example.com", "*.example.org", "localhost:3000", "*.example.net:8443"))
    request = scope(origin=origin)
    if allowed:
        assert (await admitted(request, access)).access is access
    else:
        assert await refused(request, access) == closes.BAD_ORIGIN


async def test_a_client_without_an_origin_is_admitted_since_it_is_not_a_browser() -> None:
    access = replace(ACCESS, allowed_origins=("example.com",))
    assert (await admitted(scope(), access)).origin is None


def test_a_refusal_never_echoes_the_request() -> None:
    with pytest.raises(Refusal) as raised:
        parse_request(scope("/v3/", f"api_key={KEY}&jwt=secret"), ["localhost"])
    assert KEY not in str(raised.value)
