"""The head of an HTTP request. What is refused is in `sockets/test_raw_bytes.py`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocols.http_heads import are_trailers, read_target

LINE = st.sampled_from([b"Host: a", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"a: b", b" c", b""])


@pytest.mark.parametrize(
    ("line", "authority", "path_and_query"),
    [
        (b"GET / HTTP/1.1", None, b"/"),
        (b"POST /api/publish?a=b HTTP/1.0", None, b"/api/publish?a=b"),
        (b"GET //a/v3/x;a=b?%ff HTTP/1.1", None, b"//a/v3/x;a=b?%ff"),
        (b"OPTIONS * HTTP/1.1", None, b"*"),
        (b"GET http://a HTTP/1.1", b"a", b"/"),
        (b"GET http://a?b=/c HTTP/1.1", b"a", b"/?b=/c"),
        (b"GET WSS://[::1]:80//b;c?d HTTP/1.1", b"[::1]:80", b"//b;c?d"),
    ],
)
@pytest.mark.parametrize("host", [b"", b"b", b"a_b.c-d:80", b"[::1]", b"[::1]:8000"])
def test_the_target_of_a_valid_head(line: bytes, authority: bytes | None, path_and_query: bytes, host: bytes) -> None:
    for rest in (b"", b"\r\nContent-Length: 12 ", b"\r\ntransfer-encoding:\tChunked"):
        if not (rest.endswith(b"Chunked") and line.endswith(b"1.0")):
            head = line + b"\r\nA: \xe9 \t\r\nhOST:" + host + b"\t" + rest + b"\r\nEmpty:"
            assert read_target(head) == (authority, path_and_query)


@given(lines=st.lists(st.binary(max_size=12) | LINE, max_size=6))
def test_no_line_that_another_server_could_end_elsewhere_is_accepted(lines: list[bytes]) -> None:
    head = b"\r\n".join([b"GET / HTTP/1.1", *lines])
    if read_target(head) is not None:
        received = head.split(b"\r\n")[1:]
        assert are_trailers(received)
        assert received == head.replace(b"\r", b"").split(b"\n")[1:]
        assert sum(line.lower().startswith(b"host:") for line in received) == 1
        assert sum(line.lower().startswith((b"content-length:", b"transfer-encoding:")) for line in received) <= 1


def test_a_head_of_any_size_is_read_quickly() -> None:
    for line in (b"a:" + b" " * 16_000, b"a: b\r\n" * 3_000, b"a" * 16_000):
        assert read_target(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\x00") is None
