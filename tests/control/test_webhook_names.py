"""The host of a webhook is looked up when it is saved: briefly, and without keeping anybody else waiting."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Event
from time import monotonic, sleep
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connections
from django.test import Client

from accounts import services
from accounts.models import Cluster, Webhook, WebhookKind
from accounts.webhooks import addresses
from accounts.webhooks.addresses import LOOK_UPS, check_host

URL = "https://example.com/hook"


class NameServers:
    """Name servers that answer with a public address, as soon as a test allows it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.in_transaction: list[bool] = []
        self._connection = connections["default"]  # that of the test's thread; another one asks

    def getaddrinfo(self, host: str, port: int | None, **options: Any) -> list[Any]:
        self.asked.append(host)
        self.in_transaction.append(self._connection.in_atomic_block)
        self.may_answer.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", port or 0))]

    def wait_until_asked(self, times: int) -> None:
        """Wait until the threads that ask have begun, which may take longer than a person waits."""
        wait_until(lambda: len(self.asked) >= times)


def wait_until(is_done: Callable[[], bool]) -> None:
    until = monotonic() + 30
    while not is_done() and monotonic() < until:
        sleep(0.01)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    servers = NameServers()
    monkeypatch.setattr(socket, "getaddrinfo", servers.getaddrinfo)
    yield servers
    servers.may_answer.set()
    wait_until(lambda: not addresses._looking_up)


def create(cluster: Cluster, url: str = URL, **settings: Any) -> Webhook:
    return services.create_webhook(cluster, url, **{"kinds": [WebhookKind.CLIENT], **settings}).webhook


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wrong",
    [
        *({"kinds": ["nonsense"]}, {"channel_prefix": "a b"}, {"signing_key": "x"}, {"headers": {"Host": "x"}}),
        {"url": "http://example.com/"},
    ],
)
def test_nothing_is_looked_up_while_another_setting_is_wrong(
    cluster: Cluster, names: NameServers, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        create(cluster, **wrong)
    assert names.asked == []
    webhook = create(cluster)
    with pytest.raises(ValidationError):
        services.update_webhook(webhook, **{"url": "https://other.example.com/", **wrong})
    assert names.asked == ["example.com"]


def test_a_name_can_be_looked_up_as_soon_as_the_last_one_is_known(
    names: NameServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke_callbacks = Future._invoke_callbacks  # type: ignore[attr-defined]

    def invoke_callbacks_late(future: Future[Any]) -> None:
        sleep(0.2)
        invoke_callbacks(future)

    monkeypatch.setattr(Future, "_invoke_callbacks", invoke_callbacks_late)
    for _ in range(2):
        check_host(URL, 1)
    assert len(names.asked) == 2


@pytest.mark.django_db
def test_nothing_is_looked_up_if_the_quota_is_used_up_or_the_url_stays(cluster: Cluster, names: NameServers) -> None:
    webhook = create(cluster)
    services.update_webhook(webhook, url=URL, batches=True)
    services.set_quotas(cluster.account, max_webhooks=1)
    with pytest.raises(services.QuotaReached):
        create(cluster)
    assert names.asked == ["example.com"]


@pytest.mark.django_db(transaction=True)
def test_no_transaction_waits_for_a_name_server(cluster: Cluster, names: NameServers, admin_client: Client) -> None:
    webhook = create(cluster)
    services.update_webhook(webhook, url="https://two.example.com/")
    form = {"url": "https://three.example.com/", "kinds": ["client_event"]}
    assert admin_client.post(f"/admin/accounts/webhook/{webhook.pk}/change/", form).status_code == 302
    webhook.refresh_from_db()
    assert webhook.url == "https://three.example.com/"
    assert names.asked == ["example.com", "two.example.com", "three.example.com"]
    assert names.in_transaction == [False] * 3


def test_an_account_has_one_name_looked_up_at_a_time(names: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOK_UP_SECONDS", 0.05)
    names.may_answer.clear()
    for number in range(20):
        check_host(f"https://a{number}.example.com/", account_pk=1)
    names.wait_until_asked(1)
    assert names.asked == ["a0.example.com"]
    check_host("https://b.example.com/", account_pk=2)
    names.wait_until_asked(2)
    assert names.asked == ["a0.example.com", "b.example.com"]


def test_a_limited_number_of_names_is_looked_up_at_a_time(names: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOK_UP_SECONDS", 0.05)
    names.may_answer.clear()
    for number in range(20):
        check_host("https://example.com/", account_pk=number)
    names.wait_until_asked(LOOK_UPS)
    assert len(names.asked) == LOOK_UPS
