"""Which requests are ordinary: those that every HTTP server reads alike, and only if they are for one of the doors."""

import pytest

from realtime.server.front_door import parse

HANDSHAKE = [
    *("GET /v3/1?api_key=k HTTP/1.1", "Host: demo.localhost:8000", "Upgrade: websocket", "Connection: Upgrade"),
    *("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"),
]
PUBLISH = ["POST /api/publish HTTP/1.1", "Host: localhost", "Content-Length: 2"]


def head(lines: list[str], **changed: str | None) -> bytes:
    """Return the head of a request, with header lines that are changed or left out."""
    kept = []
    for line in lines:
        name = line.partition(":")[0].replace("-", "_").lower()
        value = changed.pop(name, line)
        if value is not None:
            kept.append(value)
    added = [value for value in changed.values() if value is not None]
    return "\r\n".join([*kept, *added, "", ""]).encode("latin-1")


def test_an_ordinary_handshake_is_parsed() -> None:
    request = parse(b"..." + head(HANDSHAKE) + b"rest", 3)
    assert request is not None
    assert (request.path, request.query, request.is_publish) == ("/v3/1", b"api_key=k", False)
    assert request.headers[b"sec-websocket-version"] == b"13"
    body_at = 3 + len(head(HANDSHAKE))
    assert request.find(b"..." + head(HANDSHAKE) + b"rest", 3) == (b"api_key=k", body_at, body_at)


def test_an_ordinary_publish_is_parsed() -> None:
    sent = head(PUBLISH, connection="connection: Close")
    request = parse(sent + b"{}")
    assert request is not None
    assert (request.path, request.is_publish, request.closes) == ("/api/publish", True, True)
    assert request.find(sent + b"{}", 0) == (b"", len(sent), len(sent) + 2)


@pytest.mark.parametrize("line", ["GET /v4/1?api_key=k HTTP/1.1", "POST /api/v4/publish HTTP/1.1"])
def test_the_paths_of_piesocket_v4_are_for_the_doors_too(line: str) -> None:
    request = parse(head([line, *(PUBLISH if line.startswith("POST") else HANDSHAKE)[1:]]))
    assert request is not None
    assert request.path in ("/v4/1", "/api/v4/publish")


@pytest.mark.parametrize("length", ["0", "17", "00018", "65536"])
def test_the_same_head_is_recognized_with_a_body_of_another_size(length: str) -> None:
    request, again = (
        parse(head(PUBLISH, more="X: y")),
        head(PUBLISH, content_length=f"Content-Length: {length}", more="X: y"),
    )
    assert request is not None
    assert request.find(b"..." + again, 3) == (b"", 3 + len(again), 3 + len(again) + int(length))


def signed(query: str, *lines: str, path: str = "/apps/3/events") -> bytes:
    """Return the head of a request that a client of Pusher's API signs anew each time."""
    return head([f"POST {path}?{query} HTTP/1.1", *PUBLISH[1:], *lines])


def test_a_request_with_another_signature_is_recognized_by_the_rest_of_its_head() -> None:
    first, again = parse(signed("auth_signature=1", "X: y")), signed("auth_signature=23", "X: y")
    assert first is not None
    assert (first.path, first.query, first.is_publish) == ("/apps/3/events", b"auth_signature=1", True)
    assert first.find(b"..." + again + b"{}", 3) == (b"auth_signature=23", 3 + len(again), 5 + len(again))


def test_a_request_whose_query_is_unusual_is_recognized_only_if_it_is_the_same() -> None:
    sent = signed("auth_signature=1&info=a,b")
    first = parse(sent)
    assert first is not None
    assert first.find(sent, 0) == (b"auth_signature=1&info=a,b", len(sent), len(sent) + 2)
    assert first.find(signed("auth_signature=2&info=a,b"), 0) is None


@pytest.mark.parametrize(
    "other",
    [
        signed("auth_signature=2"),
        signed("auth_signature=2", "X: z"),
        signed("auth_signature=2", "X: y", path="/apps/4/events"),
        signed("auth_signature=2", "X: y", path="/apps/3/batch_events"),
        signed('auth_signature="2"', "X: y"),
        signed("x" * 9000, "X: y"),
        head(PUBLISH),
        head(HANDSHAKE),
    ],
)
def test_a_request_with_another_head_is_parsed_anew(other: bytes) -> None:
    first = parse(signed("auth_signature=1", "X: y"))
    assert first is not None
    assert first.find(other, 0) is None


@pytest.mark.parametrize("length", ["", "-1", "1x", "65537", "000018", "1, 1", "1 "])
def test_a_head_whose_size_is_not_ordinary_is_not_recognized(length: str) -> None:
    request = parse(head(PUBLISH))
    assert request is not None
    assert request.find(head(PUBLISH, content_length=f"Content-Length: {length}"), 0) is None


@pytest.mark.parametrize(
    "changed", [{"host": "Host: other"}, {"more": "X: y"}, {"content_length": "Content-length: 2"}]
)
def test_another_head_is_not_recognized(changed: dict[str, str | None]) -> None:
    request = parse(head(PUBLISH))
    assert request is not None
    assert request.find(head(PUBLISH, **changed), 0) is None


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Origin: https://app.example.com:8443",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        ),
        *("Connection: keep-alive, Upgrade", "User-Agent: x", "Cookie: a=b; c=d", "Empty:"),
    ],
)
def test_what_browsers_send_with_a_handshake_is_ordinary(line: str) -> None:
    changed = {"connection": line} if line.startswith("Connection") else {"more": line}
    assert parse(head(HANDSHAKE, **changed)) is not None


@pytest.mark.parametrize(
    "first",
    [
        *("GET /v3/1;a=b HTTP/1.1", "GET //h/v3/1 HTTP/1.1", "GET http://h/v3/1 HTTP/1.1", "GET /v3/%31 HTTP/1.1"),
        *(
            "GET /v3/1#x HTTP/1.1",
            "GET /v3/1?\xe9 HTTP/1.1",
            "GET  /v3/1 HTTP/1.1",
            "GET /v3/1 HTTP/1.0",
            "GET / HTTP/1.1",
        ),
        *("POST /v3/1 HTTP/1.1", "POST /api/publish/ HTTP/1.1", "GET /api/publish HTTP/1.1", "get /v3/1 HTTP/1.1"),
    ],
)
def test_any_other_request_line_goes_the_ordinary_way(first: str) -> None:
    assert parse(head([first, *HANDSHAKE[1:]])) is None
    assert parse(head([first, *PUBLISH[1:]])) is None


@pytest.mark.parametrize(
    "line",
    [
        *(
            "Host: twice",
            "No colon",
            "Space : before",
            " Folded: line",
            "Tab:\ta",
            "Latin: \xe9",
            "Nul: \0",
            "Under_score: 1",
        ),
        *("Bare: lf\nX: y", "Transfer-Encoding: chunked", "Expect: 100-continue", "Long: " + "x" * 9000),
    ],
)
@pytest.mark.parametrize("lines", [HANDSHAKE, PUBLISH])
def test_headers_that_servers_read_differently_go_the_ordinary_way(lines: list[str], line: str) -> None:
    assert parse(head(lines, more=line)) is None


@pytest.mark.parametrize(
    "changed",
    [
        *({"host": None}, {"host": "Host:"}, {"host": "Host: a b"}, {"upgrade": "Upgrade: h2c"}, {"connection": None}),
        *({"sec_websocket_version": "Sec-WebSocket-Version: 12"}, {"sec_websocket_key": "Sec-WebSocket-Key: x"}),
        *({"more": "Origin: null"}, {"more": "Sec-WebSocket-Protocol: json"}, {"more": "Content-Length: 0"}),
        *(
            {"more": "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8"},
            {"more": "Jwt: 1\r\njwt: 2"},
        ),
    ],
)
def test_a_handshake_with_rules_of_its_own_goes_the_ordinary_way(changed: dict[str, str | None]) -> None:
    assert parse(head(HANDSHAKE, **changed)) is None


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {"content_length": None},
            {"content_length": "Content-Length: +2"},
            {"content_length": "Content-Length: 65537"},
        ),
        *(
            {"content_length": f"Content-Length: {'0' * 5000}2"},
            {"more": "Connection: close, x"},
            {"more": "Upgrade: h2c"},
        ),
        *({"content_length": "Content-Length: 2\r\nContent-Length: 2"}, {"host": None}),
    ],
)
def test_a_publish_with_rules_of_its_own_goes_the_ordinary_way(changed: dict[str, str | None]) -> None:
    assert parse(head(PUBLISH, **changed)) is None


def test_a_head_that_has_not_arrived_whole_goes_the_ordinary_way() -> None:
    for whole in (head(HANDSHAKE), head(PUBLISH)):
        for length in range(len(whole)):
            assert parse(whole[:length]) is None
