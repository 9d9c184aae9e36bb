"""Whatever bytes the HTTP interfaces receive, the answer is a documented one and never a 500."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers import LiveServer

EXAMPLES = 100
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["\ud800", "\0", "a" * 200, "1", "a/b", 10**400, 1e308, -0.0]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=8,
)
NAMES = st.sampled_from(["key", "secret", "channelId", "roomId", "message", "messages", "other"])
MEMBERS = st.dictionaries(NAMES, st.one_of(VALUES, st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=3)))
DEEP = st.sampled_from(
    [b"[" * 100_000, b'{"message":' * 20_000, b'{"channelId":"1","message":' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
BODIES = st.one_of(
    st.binary(max_size=200),
    MEMBERS.map(lambda members: json.dumps(members).encode()),
    MEMBERS.map(lambda members: json.dumps(members).encode()[:-1]),
    st.sampled_from(["utf-16", "utf-8-sig", "utf-32"]).map('{"channelId":"1","message":"é"}'.encode),
    st.sampled_from([b"", b"null", b"{}", b"[]", b"1e999", b"NaN", b'{"message":NaN}', b'{"a":' + b"9" * 5000 + b"}"]),
    DEEP,
)
# The HTTP parser answers control characters with 400.
HEADER_VALUES = st.text(st.characters(codec="latin-1", exclude_categories=["Cc", "Zs"]), max_size=30).map(
    lambda text: text.encode("latin-1")
)


@pytest.fixture(scope="module", params=["serve", "shut"])
def server(request: pytest.FixtureRequest, start: Callable[..., LiveServer]) -> LiveServer:
    """A server for this module only, since wrong secrets count against the address that sends them."""
    return start(request.param)


@pytest.fixture(scope="module")
def client() -> Any:
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


hostile = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@hostile
@given(body=BODIES, is_batch=st.booleans(), credentials=st.sampled_from(["right", "none", "wrong", "body"]))
def test_any_body_sent_to_publish_gets_a_documented_answer(
    server: LiveServer,
    keys: dict[str, str],
    secrets: dict[str, str],
    client: httpx.Client,
    body: bytes,
    is_batch: bool,
    credentials: str,
) -> None:
    headers = {
        "right": {"key": keys["demo"], "secret": secrets["demo"]},
        "wrong": {"key": keys["demo"], "secret": "x" * 60},
    }.get(credentials, {})
    if credentials == "body" and body.startswith(b'{"'):
        body = json.dumps({"key": keys["demo"], "secret": secrets["demo"]}).encode()[:-1] + b", " + body[1:]
    url = server.url("/api/publish/batch" if is_batch else "/api/publish", scheme="http")
    check_answer(client.post(url, content=body, headers=headers), secrets["demo"])


@hostile
@given(
    key=HEADER_VALUES,
    secret=HEADER_VALUES,
    origin=HEADER_VALUES,
    method=st.sampled_from(["GET", "POST", "PUT", "OPTIONS", "HEAD"]),
    path=st.sampled_from(
        ["/api/publish", "/api/publish/batch", "/api/connections", "/api/connections/sum", "/api/domains"]
    ),
)
def test_any_headers_sent_to_the_cluster_api_get_a_documented_answer(
    server: LiveServer, client: httpx.Client, key: bytes, secret: bytes, origin: bytes, method: str, path: str
) -> None:
    headers = [(b"key", key), (b"secret", secret), (b"Origin", origin)]
    answer = client.request(method, server.url(path, scheme="http"), headers=headers)
    if method == "OPTIONS":
        assert answer.status_code == 204
    elif method != "HEAD":
        check_answer(answer)


def check_answer(answer: httpx.Response, secret: str = "?") -> None:
    assert answer.status_code in {200, 400, 401, 403, 405, 413, 429}
    assert secret not in answer.text
    if answer.status_code == 200:
        assert answer.json() == {"success": True}
    else:
        body = answer.json()
        assert list(body) == ["error"]
        assert body["error"].endswith((".", "…"))
    assert ("Retry-After" in answer.headers) == (answer.status_code == 429)


@hostile
@given(
    body=BODIES,
    kind=st.sampled_from(
        [
            *(
                "application/json",
                "application/json; charset=utf-16",
                "application/json; charset=nonsense",
                "text/plain",
            ),
            *(
                "application/x-www-form-urlencoded",
                "application/x-www-form-urlencoded; charset=zlib",
                "multipart/form-data",
            ),
            *("multipart/form-data; boundary=x", "multipart/form-data; boundary=" + "x" * 300, "", "/", "\xff"),
        ]
    ),
    path=st.sampled_from(
        [
            "/api/v1/token/",
            "/api/v1/accounts/",
            "/api/v1/keys/",
            "/api/v1/clusters/",
            "/console/you/login/",
            "/admin/",
            "/",
            "/nowhere",
        ]
    ),
)
def test_any_body_sent_to_the_pages_or_the_rest_api_gets_a_status_below_500(
    server: LiveServer, client: httpx.Client, body: bytes, kind: str, path: str
) -> None:
    headers = [(b"Content-Type", kind.encode("latin-1"))]
    assert client.post(server.url(path, scheme="http"), content=body, headers=headers).status_code < 500
