"""What people do with webhooks is recorded with its author, whichever way they take, in entries of a limited size."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings
from rest_framework.test import APIClient

from accounts import services
from accounts.models import Account, AuditEntry, Cluster, ResourceKind, Webhook
from accounts.users import User
from tests.console.tenants import Tenants
from tests.console.test_webhooks import version_in

pytestmark = pytest.mark.django_db
URL, NEW_URL = "https://example.com/hook", "https://example.com/new"


@pytest.fixture
def webhook(cluster: Cluster) -> Webhook:
    """A webhook with an old secret and a delivery that has failed."""
    webhook = services.create_webhook(cluster, URL, kinds=["client_event"]).webhook
    services.rotate_webhook_secret(webhook, services.MAX_OVERLAP)
    services.send_test_event(webhook)
    webhook.deliveries.update(state="failed")
    return webhook


class Person:
    """Somebody who changes webhooks in one way."""

    def __init__(self, user: User, base: str) -> None:
        self.email, self.base = user.email, base
        self.rest, self.browser = APIClient(), Client()
        self.rest.force_authenticate(user)
        self.browser.force_login(user)

    def call(self, path: str = "", body: Any = None, method: str = "post") -> None:
        answer = getattr(self.rest, method)(f"/api/v1/webhooks/{path}", body, format="json")
        assert answer.status_code < 300, answer.content

    def send(self, path: str, **values: Any) -> None:
        assert self.browser.post(f"{self.base}{path}", values).status_code == 302

    def save(self, path: str, **values: Any) -> None:
        self.send(path, **values, version=version_in(self.browser.get(f"{self.base}{path}").content.decode()))


Way = Callable[[Person, Webhook], None]
FORM = {"url": URL, "kinds": ["client_event"], "enabled": "on"}
CONSOLE: dict[str, Way] = {
    "created": lambda person, webhook: person.send("new/", **FORM, cluster=webhook.cluster.cluster_id),
    "changed": lambda person, webhook: person.save(f"{webhook.pk}/edit/", **{**FORM, "url": NEW_URL}),
    "switched": lambda person, webhook: person.send(f"{webhook.pk}/off/"),
    "rotated": lambda person, webhook: person.send(f"{webhook.pk}/rotate/", overlap="0"),
    "ended": lambda person, webhook: person.send(f"{webhook.pk}/end-old-secret/"),
    "tested": lambda person, webhook: person.send(f"{webhook.pk}/test/"),
    "resent": lambda person, webhook: person.send(f"{webhook.pk}/redeliver/", since="2020-01-01T00:00"),
    "one resent": lambda person, webhook: person.send(f"{webhook.pk}/redeliver/{webhook.deliveries.get().pk}/"),
    "deleted": lambda person, webhook: person.send(f"{webhook.pk}/delete/"),
}
REST: dict[str, Way] = {
    "created": lambda person, _: person.call("", {"cluster": "shop", "url": URL, "kinds": ["client_event"]}),
    "changed": lambda person, webhook: person.call(f"{webhook.pk}/", {"url": NEW_URL}, "patch"),
    "switched": lambda person, webhook: person.call(f"{webhook.pk}/", {"enabled": False}, "patch"),
    "rotated": lambda person, webhook: person.call(f"{webhook.pk}/rotate-secret/"),
    "ended": lambda person, webhook: person.call(f"{webhook.pk}/end-old-secret/"),
    "tested": lambda person, webhook: person.call(f"{webhook.pk}/test/"),
    "resent": lambda person, webhook: person.call(f"{webhook.pk}/redeliver/"),
    "one resent": lambda person, webhook: person.call(
        f"{webhook.pk}/deliveries/{webhook.deliveries.get().message_id}/redeliver/"
    ),
    "deleted": lambda person, webhook: person.call(f"{webhook.pk}/", method="delete"),
}
ADMIN: dict[str, Way] = {
    "changed": lambda person, webhook: person.send(
        f"webhook/{webhook.pk}/change/", url=NEW_URL, kinds=["client_event"]
    ),
    "switched": lambda person, webhook: person.send(f"webhook/{webhook.pk}/disable/", confirmed="yes"),
    "tested": lambda person, webhook: person.send(f"webhook/{webhook.pk}/test/", confirmed="yes"),
    "resent": lambda person, webhook: person.send(f"webhook/{webhook.pk}/redeliver/", confirmed="yes"),
    "one resent": lambda person, webhook: person.send(
        f"webhookdelivery/{webhook.deliveries.get().pk}/redeliver/", confirmed="yes"
    ),
    "deleted": lambda person, webhook: person.send(f"webhook/{webhook.pk}/delete/", post="yes"),
}
WAYS = {"console": CONSOLE, "rest": REST, "admin": ADMIN}
VERBS = {"switched": "changed", "one resent": "resent"}


@pytest.mark.parametrize(("source", "name"), [(source, name) for source, ways in WAYS.items() for name in ways])
def test_everything_is_recorded_once_with_its_author(shops: Tenants, webhook: Webhook, source: str, name: str) -> None:
    user = User.objects.get(pk=shops.people["owner"])
    if source == "admin":
        user = User.objects.create_superuser("operator@example.com")
    base = "/admin/accounts/" if source == "admin" else f"/console/{shops.shop.account}/webhooks/"
    AuditEntry.objects.all().delete()
    WAYS[source][name](Person(user, base), webhook)
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.kind, entry.source) == (VERBS.get(name, name), ResourceKind.WEBHOOK, source)
    assert (entry.email, entry.by_operator, entry.account_pk) == (user.email, source == "admin", shops.shop.account)
    if name == "changed":
        assert entry.changes == {"url": [URL, NEW_URL]}


def test_an_entry_is_small_whatever_is_changed(shops: Tenants, webhook: Webhook) -> None:
    AuditEntry.objects.all().delete()
    person = Person(User.objects.get(pk=shops.people["owner"]), "")
    headers = {f"X-{number}-{'x' * 95}": "1" for number in range(10)}
    large = {"url": f"https://example.com/{'x' * 1900}", "channel_prefix": "x" * 257, "headers": headers}
    person.call(f"{webhook.pk}/", large, "patch")
    person.call(f"{webhook.pk}/", {"url": f"https://example.com/{'y' * 1900}"}, "patch")
    assert AuditEntry.objects.count() == 3
    for entry in AuditEntry.objects.values():
        assert len(json.dumps(entry, default=str)) < 2_500


@pytest.mark.parametrize("name", ["created", "changed", "switched", "rotated", "tested", "resent", "one resent"])
def test_nothing_is_changed_any_more_when_the_account_was_changed_too_often(
    shops: Tenants, webhook: Webhook, settings: Settings, name: str
) -> None:
    settings.CHANGES_PER_DAY = AuditEntry.objects.filter(account_pk=shops.shop.account).count()
    before = (list(Webhook.objects.values()), list(webhook.deliveries.values()))
    person = Person(User.objects.get(pk=shops.people["owner"]), "")
    with pytest.raises(AssertionError, match=r"changed \d+ times today"):
        REST[name](person, webhook)
    assert (list(Webhook.objects.values()), list(webhook.deliveries.values())) == before


def test_access_can_always_be_taken_away(shops: Tenants, webhook: Webhook, settings: Settings) -> None:
    settings.CHANGES_PER_DAY = AuditEntry.objects.filter(account_pk=shops.shop.account).count()
    person = Person(User.objects.get(pk=shops.people["owner"]), "")
    for name in ("ended", "deleted"):
        REST[name](person, webhook)
    assert not Account.objects.get(pk=shops.shop.account).clusters.get().webhooks.exists()
