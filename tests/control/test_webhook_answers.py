"""What receivers may answer: hostile ones cost this service little, and whatever they send, there is an answer."""

import sys
import time
from ipaddress import ip_network
from unittest.mock import Mock

import pytest
from pytest_django import Settings

from accounts.webhooks.client import Answer, WebhookClient
from accounts.webhooks.network import MAX_PARTS
from tests.receivers import Receiver, Reply, raw_receiver

CPU_SECONDS = 0.15
"""How long the loop may compute for one answer; unlimited ones took 0.5 s and more."""
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def local(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]


async def post(url: str, body: bytes = b"{}") -> Answer:
    client = WebhookClient(4)
    try:
        return await client.post(url, [], body)
    finally:
        await client.close()


async def cost(url: str) -> tuple[Answer, float]:
    """Return an answer, and how long this thread has computed for it."""
    await post(url)  # loads what is loaded once
    began = time.thread_time()
    return await post(url), time.thread_time() - began


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
async def test_endless_answers_before_the_answer_are_given_up(line_end: bytes) -> None:
    with raw_receiver((b"HTTP/1.1 100 Continue" + 2 * line_end) * 1_000, is_endless=True) as url:
        answer, seconds = await cost(url)
    assert (answer.status, answer.error) == (None, "The headers of the answer are too long.")
    assert seconds < CPU_SECONDS


async def test_endless_headers_are_given_up() -> None:
    with raw_receiver(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000) as url:
        answer, seconds = await cost(url)
    assert (answer.status, answer.error) == (None, "The headers of the answer are too long.")
    assert seconds < CPU_SECONDS


async def test_few_of_thousands_of_tiny_chunks_are_read() -> None:
    with raw_receiver(CHUNKED + b"1\r\na\r\n" * 8_000 + b"0\r\n\r\n") as url:
        answer = await post(url)
    assert (answer.status, set(answer.text)) == (200, {"a"})
    assert len(answer.text) <= MAX_PARTS // 2  # a chunk has two lines


async def test_common_answers_are_read_whole_and_their_connections_used_again() -> None:
    page = "<!DOCTYPE html>\n" + "<p>sorry</p>\n" * 60
    headers = tuple((f"X-Header-{number}", "x" * 100) for number in range(30))
    with Receiver(lambda _: Reply(500, page.encode(), headers)) as receiver:
        client = WebhookClient(4)
        answers = [await client.post(receiver.url, [], b"{}") for _ in range(3)]
        await client.close()
    assert {(answer.status, answer.text) for answer in answers} == {(500, page)}
    assert receiver.connections == 1


async def test_large_requests_arrive_whole() -> None:
    body = b"".join(number.to_bytes(4) for number in range(500_000))
    with Receiver() as receiver:
        assert (await post(receiver.url, body)).status == 200
    assert receiver.requests[0].body == body
    assert receiver.requests[0].headers["content-length"] == str(len(body))


async def test_a_request_looks_for_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_receiver(CHUNKED + b"0\r\n\r\n") as url:
        await post(url)  # loads what is loaded once
        finder = Mock(find_spec=Mock(return_value=None))
        monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
        assert (await post(url)).status == 200
    assert finder.find_spec.call_args_list == []
