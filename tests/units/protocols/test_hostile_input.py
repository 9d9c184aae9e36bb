"""Properties of the code that first sees a client's input: any input is either accepted correctly or refused."""

import asyncio
import json
import string
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jwt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from realtime.protocols import tokens
from realtime.protocols.admission import admit, read_v3
from realtime.protocols.channels import is_private
from realtime.protocols.closes import BAD_JWT, Refusal
from realtime.protocols.commands import answer
from realtime.protocols.events import is_forged
from realtime.protocols.frames import Message
from realtime.protocols.handshake import cluster_of, origin_matches, parse_request
from tests.jwts import part, sign
from tests.units.protocols.test_admission import ACCESS, KEY, lookup_in

SECRET = "s" * 64
NAME = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=128)
# What ASGI servers pass on: the path decoded in some way, headers and query as bytes.
PATHS = st.one_of(st.text(max_size=60), NAME.map("/v3/{}".format), st.text(max_size=20).map("/v3/{}".format))
OPTION_NAMES = st.sampled_from(["api_key", "apiKey", "notify_self", "presence", "uuid", "user", "jwt", "source", "%00"])
OPTION_VALUES = st.one_of(
    st.sampled_from([b"", b"1", b"0", b"on", b"%", b"%ff", b"%00", b"%ed%a0%80", b"\xff", KEY.encode(), b"x" * 300]),
    st.binary(max_size=20),
)
QUERIES = st.one_of(
    st.binary(max_size=100),
    st.lists(st.tuples(OPTION_NAMES, OPTION_VALUES), max_size=6).map(
        lambda options: b"&".join(name.encode() + b"=" + value for name, value in options)
    ),
)
HOSTS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"demo.localhost", b"other.localhost:1", b"localhost", b"[::1]:8000", b".localhost", b"a:b:c"]),
)
HEADERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"host"]), HOSTS),
        st.tuples(st.sampled_from([b"origin", b"jwt", b"cookie", b"host", b""]), st.binary(max_size=40)),
    ),
    max_size=5,
)
SCOPES = st.fixed_dictionaries({"path": PATHS, "query_string": QUERIES, "headers": HEADERS})


def outcome(function: Callable[[], Any]) -> Any:
    """Return what a function returns, or the refusal that it raises."""
    try:
        return function()
    except Refusal as refusal:
        return refusal


@given(SCOPES)
def test_any_handshake_is_a_request_or_a_refusal_that_says_what_to_do(scope: dict[str, Any]) -> None:
    request = outcome(lambda: parse_request(scope, ["localhost"]))
    if isinstance(request, Refusal):
        assert request.close.code == 4000
        assert request.close.sentence
    else:
        assert request.channel_id.isascii()
        assert request.path in scope["path"]
        assert 1 <= len(request.uuid or "u") <= 64
        assert len(request.user or "") <= 256


@given(SCOPES)
def test_any_handshake_is_admitted_or_refused_and_a_refusal_reveals_no_credential(scope: dict[str, Any]) -> None:
    access = replace(ACCESS, allowed_origins=("example.com",))
    admission = outcome(lambda: asyncio.run(admit(read_v3(scope, ["localhost"]), lookup_in(access))))
    if isinstance(admission, Refusal):
        assert admission.close.code in {4000, 4001, 4003, 4009}
        assert KEY not in str(admission)
    else:
        assert KEY.encode() in scope["query_string"]
        assert admission.proof is None, "none of the JWTs is valid"
        assert not is_private(admission.channel[1])


@given(
    NAME,
    st.lists(st.tuples(st.sampled_from([b"cookie", b"user-agent", b"x-real-ip", b"referer"]), st.binary(max_size=30))),
    st.dictionaries(
        NAME.filter(lambda name: not {name} & {"api_key", "apiKey", "jwt", "uuid", "user"}), NAME, max_size=4
    ),
    st.sampled_from(["", "0", "false", "no", "OFF"]),
)
def test_an_admission_depends_only_on_what_the_contract_names(
    channel: str, headers: list[tuple[bytes, bytes]], options: dict[str, str], off: str
) -> None:
    assume(not channel.startswith("private-") and not {"notify_self", "presence"} & options.keys())

    def admission(query: str, more: list[tuple[bytes, bytes]]) -> Any:
        scope = {
            "path": f"/v3/{channel}",
            "query_string": query.encode(),
            "headers": [(b"host", b"demo.localhost"), *more],
        }
        admitted = asyncio.run(admit(read_v3(scope, ["localhost"]), lookup_in(ACCESS)))
        assert admitted.target is not None
        # A member without a uuid gets a random one.
        return replace(admitted, target=replace(admitted.target, identity=None))

    flags = f"&notify_self={off}" if off else ""
    noise = "".join(f"&{name}={value}" for name, value in options.items())
    assert admission(f"api_key={KEY}", []) == admission(f"{noise[1:]}&api_key={KEY}{flags}", headers)


@given(st.text(max_size=60), st.lists(st.sampled_from(["localhost", "example.com"]), unique=True))
def test_a_host_names_a_cluster_only_under_a_cluster_domain(host: str, domains: list[str]) -> None:
    cluster = cluster_of(host, domains)
    if cluster is not None:
        assert "." not in cluster
        assert any(f"{cluster}.{domain}" in host.lower() for domain in domains)


@given(
    st.one_of(
        st.text(max_size=60), st.text(":/@?#.[]\\ \0evilxampcom", max_size=40).map("https://{}example.com".format)
    )
)
def test_an_origin_matches_only_as_browsers_write_it(origin: str) -> None:
    if origin_matches(origin, {"example.com"}):
        host = origin.lower().partition("://")[2].partition(":")[0]
        assert host == "example.com"


@given(st.one_of(st.text(max_size=100), st.text(string.printable).map("cmd_{}".format)))
def test_any_command_has_one_short_json_answer(text: str) -> None:
    sent: list[Message] = []
    answer(text, lambda then: then(3), sent.append)
    (message,) = sent
    assert list(json.loads(message.data)) == ["system"]
    assert len(message.wire) < 1000


EVENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=20), st.sampled_from(["event", "system:x"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
)


@given(st.one_of(st.text(), EVENTS.map(json.dumps)))
def test_no_text_makes_the_check_for_forged_events_raise(text: str) -> None:
    is_forged(text)


@given(
    st.text("system:SYTEM portal_", max_size=12).map("system:{}".format),
    st.sampled_from(["", " ", "\n\t"]),
    st.dictionaries(st.text(max_size=5).filter(lambda name: name != "event"), st.integers(), max_size=2),
    st.booleans(),
)
def test_a_system_event_is_recognized_however_its_json_is_written(
    event: str, space: str, others: dict[str, int], is_escaped: bool
) -> None:
    members = json.dumps({**others, "event": event})
    if is_escaped:
        members = members.replace('"event"', '"\\u0065v\\u0065nt"').replace("system:", "\\u0073ystem:")
    assert is_forged(space + members + space) == (event not in RELAYED)


RELAYED = {
    *("system:portal_broadcaster", "system:portal_watcher", "system:portal_candidate", "system:video_request"),
    *("system:video_offer", "system:video_answer", "system:stopped_screen"),
}
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@given(
    st.one_of(
        st.text(max_size=200), st.lists(st.binary(max_size=40), max_size=4).map(lambda ps: ".".join(map(part, ps)))
    )
)
def test_arbitrary_text_is_not_a_valid_jwt(token: str) -> None:
    with pytest.raises(Refusal) as raised:
        tokens.verify(token, SECRET, "private-1")
    assert raised.value.close is BAD_JWT


@given(st.integers(0), st.integers(1, 255))
@settings(max_examples=300)
def test_a_valid_jwt_with_one_changed_byte_is_not_valid(place: int, change: int) -> None:
    good = tokens.sign(SECRET, "private-1", 3600)
    at = place % len(good)
    bad = good[:at] + chr(ord(good[at]) ^ change) + good[at + 1 :]
    # The last Base64 character of a part can have unused bits.
    assume(_decoded(bad) != _decoded(good))
    with pytest.raises(Refusal):
        tokens.verify(bad, SECRET, "private-1")


def _decoded(token: str) -> Any:
    try:
        return [jwt.utils.base64url_decode(piece) for piece in token.encode("latin-1").split(b".")]
    except ValueError:
        return token


def claim(right: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(right), JSON_VALUES)


@given(claim("private-1"), claim(int(time.time()) + 3600), claim(0))
def test_a_signed_jwt_is_valid_only_if_each_claim_is(sub: Any, exp: Any, nbf: Any) -> None:
    token = sign(SECRET, {"sub": sub, "exp": exp, "nbf": nbf})
    result = outcome(lambda: tokens.verify(token, SECRET, "private-1"))
    if isinstance(result, Refusal):
        assert result.close is BAD_JWT
    else:
        assert sub == "private-1"
        assert int(exp) >= time.time() - 11
        assert nbf is None or int(nbf) <= time.time() + 11
