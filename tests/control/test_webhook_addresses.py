"""Where webhooks are sent to, and where not: no tenant reaches the operator's own network."""

import socket
from ipaddress import ip_address, ip_network

import pytest
from django.core.exceptions import ValidationError
from pytest_django import Settings

from accounts.webhooks import addresses
from accounts.webhooks.addresses import NoSuchHost, NotPublic, is_allowed, resolve, validate_url
from accounts.webhooks.client import WebhookClient
from tests.receivers import Receiver, Reply

INTERNAL = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "192.88.99.1", "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1"),
    *("ff0e::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "::7f00:1"),
    # IPv4 addresses within IPv6 addresses: mapped, 6to4, Teredo (server and client), NAT64.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "2002:a00:1::", "2001:0:7f00:1::f7f7:f7f7"),
    *("2001:0:808:808::f5ff:fffe", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "2002:808:808::", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", INTERNAL)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(ValidationError, match="public addresses"):
        validate_url(f"https://{shown}/hook")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))
    validate_url(f"https://{f'[{address}]' if ':' in address else address}/hook")


def test_operators_can_allow_networks(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.1.0.0/16"), ip_network("fd00::/64")]
    validate_url("https://10.1.2.3/")
    validate_url("https://[fd00::1]/")
    for other in ("https://10.2.0.1/", "https://[fd00:0:0:1::1]/", "https://127.0.0.1/"):
        with pytest.raises(ValidationError):
            validate_url(other)


@pytest.mark.parametrize("host", ["0x7f000001", "2130706433", "0177.0.0.1", "127.1", "0", "127.0.0.1."])
def test_odd_spellings_of_internal_addresses_are_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        validate_url(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://example.com/", "begins with https://"),
        ("ftp://example.com/", "begins with https://"),
        ("file:///etc/passwd", "begins with https://"),
        ("example.com", "begins with https://"),
        ("https://", "with a host name"),
        ("https:///path", "with a host name"),
        ("https://exa mple.com/", "no spaces"),
        ("https://example.com/\r\nX: 1", "only ASCII characters"),
        ("https://exämple.com/", "international host name as xn--"),
        ("https://example.com/ü", "with percent signs"),
        ("https://example.com:port/", "Use port 443"),
        ("https://example.com:99999/", "1024 to 65535"),
        ("https://[::1/", "host name of this URL is not valid"),
        ("https://example..com/", "host name of this URL is not valid"),
        ("https://user:password@example.com/", "user or a password"),
        ("https://user@example.com/", "user or a password"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:22/", "port"),
        ("https://example.com:0/", "port"),
        ("https://demo.localhost/", "this service itself"),
        ("https://localhost/", "this service itself"),
        ("https://LOCALHOST./", "this service itself"),
    ],
)
def test_other_urls_are_refused_with_a_reason(url: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        validate_url(url)


def test_own_domains_are_refused(settings: Settings) -> None:
    settings.CLUSTER_DOMAINS, settings.ALLOWED_HOSTS = ["ws.example.com"], ["admin.example.com", ".ws.example.com"]
    for host in ("ws.example.com", "demo.ws.example.com", "admin.example.com"):
        with pytest.raises(ValidationError, match="this service itself"):
            validate_url(f"https://{host}/")
    validate_url("https://example.com/")
    validate_url("https://notws.example.com:8443/hook?x=1")


def test_localhost_is_for_operators_to_allow(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    validate_url("https://localhost:8080/")
    with pytest.raises(ValidationError, match="this service itself"):
        validate_url("https://demo.localhost/")


def test_http_is_for_operators_to_allow(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWS_HTTP = True
    validate_url("http://example.com:80/")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0x7f000001", "2130706433", "::ffff:127.0.0.1", "0"])
async def test_a_name_that_leads_to_an_internal_address_is_refused_when_connecting(host: str) -> None:
    with pytest.raises(NotPublic):
        await resolve(host, 443)


async def test_one_internal_address_among_several_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answers("8.8.8.8", "10.0.0.1"))
    with pytest.raises(NotPublic):
        await resolve("mixed.example.com", 443)


async def test_a_name_without_address_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchHost):
        await resolve("does-not-exist.invalid", 443)


async def test_the_address_that_was_checked_is_the_one_connected_to(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that gives another answer the second time is never asked a second time."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    asked = []
    real = socket.getaddrinfo

    def rebinding(host: str, port: int, *args: object, **options: object) -> object:
        if host != "rebinding.example.com":
            return real(host, port, *args, **options)  # type: ignore[arg-type]
        asked.append(host)
        return answers("127.0.0.1" if len(asked) == 1 else "10.0.0.1")(host, port)

    with Receiver() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        client = WebhookClient(4)
        answer = await client.post(f"http://rebinding.example.com:{receiver.port}/hook", [], b"{}")
        await client.close()
        assert answer.status == 200
        assert asked == ["rebinding.example.com"]
        assert receiver.requests[0].headers["host"] == f"rebinding.example.com:{receiver.port}"


async def test_an_internal_address_gets_no_request() -> None:
    with Receiver() as receiver:
        client = WebhookClient(4)
        answer = await client.post(receiver.url, [], b"{}")
        await client.close()
    assert answer.status is None
    assert answer.error == addresses.NOT_PUBLIC
    assert receiver.requests == []


async def test_redirects_are_not_followed(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with Receiver() as target:
        with Receiver(lambda _: Reply(302, headers=(("Location", target.url),))) as receiver:
            client = WebhookClient(4)
            answer = await client.post(receiver.url, [], b"{}")
            await client.close()
        assert (answer.status, answer.is_success) == (302, False)
        assert target.requests == []


async def test_proxies_of_the_environment_are_ignored(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Receiver() as receiver:
        client = WebhookClient(4)
        assert (await client.post(receiver.url, [], b"{}")).status == 200
        await client.close()


async def test_the_operators_proxy_gets_all_requests(settings: Settings) -> None:
    with Receiver() as proxy:
        settings.WEBHOOK_PROXY = f"http://127.0.0.1:{proxy.port}"
        client = WebhookClient(4)
        assert (await client.post("http://example.com/hook", [], b"{}")).status == 200
        await client.close()
        assert proxy.requests[0].path == "http://example.com/hook"


async def test_large_answers_are_not_read(settings: Settings) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with Receiver(lambda _: Reply(200, b"x" * 50_000_000)) as receiver:
        client = WebhookClient(4)
        answer = await client.post(receiver.url, [], b"{}")
        await client.close()
    assert answer.status == 200
    assert answer.text == "x" * 1024


def answers(*found: str) -> object:
    """Return a function that resolves every name to these addresses; the name server is out of reach."""
    return lambda host, port, *args, **options: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]
