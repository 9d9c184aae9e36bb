"""Every URL of the console, opened by every role: in its own account, in another one, and in a suspended one.

The table has an entry for each URL pattern, unless another module tests it. A new pattern without an entry fails.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import URLPattern, URLResolver, resolve, reverse

from accounts import services
from accounts.console import urls
from accounts.models import (
    Account,
    ApiKey,
    AuditEntry,
    Cluster,
    Invitation,
    Membership,
    Webhook,
    WebhookDelivery,
)
from accounts.users import User
from tests.console import test_members_tenancy
from tests.console.conftest import As
from tests.console.tenants import Tenant, Tenants, make_tenants

pytestmark = pytest.mark.django_db

MEMBERS = ("owner", "developer", "viewer")
PEOPLE = (*MEMBERS, "stranger", None)
"""The stranger owns the other account. None is a visitor who has not logged in."""


class Rule(NamedTuple):
    """Who may send a request with one method; all others get 403, or 404 if they do not belong to the account."""

    roles: tuple[str, ...]
    in_suspended: bool
    """Whether these roles may also do so if the account is suspended."""


READS = Rule(MEMBERS, in_suspended=True)
DEVELOPERS_READ = Rule(("owner", "developer"), in_suspended=True)
DEVELOPERS = Rule(("owner", "developer"), in_suspended=False)
OWNERS = Rule(("owner",), in_suspended=False)


class AnyNumber(dict[str, str]):
    """Stands for the arguments of a path."""

    def __missing__(self, name: str) -> str:
        return "1"


class Entry(NamedTuple):
    """The rules of a URL for each method; None if it does not accept the method."""

    get: Rule | None
    post: Rule | None = None


PERSONAL = frozenset({"home", "security"})
"""Pages that belong to the user and to no account: everyone who is logged in may open them."""
IN_OTHER_MODULES = frozenset(
    {
        *(resolve(f"/console/{case.path.format_map(AnyNumber())}").url_name for case in test_members_tenancy.CASES),
        *("end_session", "end_other_sessions"),  # test_log_in
        "demo",  # test_demo_link
        "invitation",  # test_invitation_links
    }
)

TABLE = {
    "overview": Entry(READS),
    "start": Entry(DEVELOPERS, DEVELOPERS),
    "start_connection": Entry(DEVELOPERS_READ),
    "start_send": Entry(None, DEVELOPERS),
    "start_hide": Entry(None, DEVELOPERS_READ),
    "clusters": Entry(READS),
    "new_cluster": Entry(DEVELOPERS, DEVELOPERS),
    "cluster": Entry(READS),
    "cluster_new_key": Entry(DEVELOPERS, DEVELOPERS),
    "cluster_off": Entry(DEVELOPERS, DEVELOPERS),
    "cluster_on": Entry(None, DEVELOPERS),
    "cluster_options": Entry(None, DEVELOPERS),
    "cluster_delete": Entry(OWNERS, OWNERS),
    "new_key": Entry(DEVELOPERS, DEVELOPERS),
    "key": Entry(READS, DEVELOPERS),
    "secret": Entry(DEVELOPERS_READ),
    "key_rotate": Entry(DEVELOPERS, DEVELOPERS),
    "key_end_old_secret": Entry(DEVELOPERS, DEVELOPERS),
    "key_revoke": Entry(DEVELOPERS, DEVELOPERS),
    "live": Entry(DEVELOPERS_READ),
    "live_send": Entry(None, DEVELOPERS),
    "live_channels": Entry(DEVELOPERS_READ),
    "live_disconnect": Entry(DEVELOPERS, DEVELOPERS),
    "refusals": Entry(READS),
    "usage": Entry(READS),
    "usage_csv": Entry(READS),
    "webhooks": Entry(READS),
    "new_webhook": Entry(DEVELOPERS, DEVELOPERS),
    "webhook": Entry(READS),
    "webhook_edit": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_secret": Entry(DEVELOPERS_READ),
    "webhook_verify": Entry(READS),
    "webhook_rotate": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_end_old_secret": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_off": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_on": Entry(None, DEVELOPERS),
    "webhook_delete": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_test": Entry(None, DEVELOPERS),
    "webhook_result": Entry(DEVELOPERS_READ),
    "webhook_redeliver_failed": Entry(DEVELOPERS, DEVELOPERS),
    "webhook_redeliver": Entry(None, DEVELOPERS),
}


def patterns(items: list[Any] = urls.urlpatterns) -> Iterator[URLPattern]:
    for item in items:
        yield from patterns(item.url_patterns) if isinstance(item, URLResolver) else [item]


def webhook_of(tenant: Tenant) -> dict[str, int]:
    """Return the arguments of the paths about a tenant's webhook; too large numbers for a tenant without one."""
    delivery = WebhookDelivery.objects.filter(webhook__cluster__cluster_id=tenant.cluster).first()
    if delivery is None:
        return dict.fromkeys(("webhook_pk", "delivery_pk"), 10**30)
    return {"webhook_pk": delivery.webhook_id, "delivery_pk": delivery.pk}


class Route(NamedTuple):
    """A URL pattern: its name, which others may have too, and its arguments."""

    name: str
    arguments: tuple[str, ...]

    def path(self, account: int, tenant: Tenant) -> str:
        """Return the path of a page of an account about what a tenant owns."""
        values = {"account": account, "cluster_id": tenant.cluster, "pk": tenant.key, **webhook_of(tenant)}
        return reverse(f"console:{self.name}", kwargs={argument: values[argument] for argument in self.arguments})

    @property
    def is_about_an_object(self) -> bool:
        """Whether it is about something that an account owns."""
        return len(self.arguments) > 1


ROUTES = [Route(str(pattern.name), tuple(pattern.pattern.converters)) for pattern in patterns()]
CASES = [
    (route, method, getattr(TABLE[route.name], method))
    for route in ROUTES
    if route.name in TABLE
    for method in ("get", "post")
]
PATHS = [route for route in ROUTES if route.name in TABLE]


def state() -> list[Any]:
    """Return everything that a page could change."""
    models = (Account, Membership, Invitation, Cluster, ApiKey, Webhook, WebhookDelivery, AuditEntry, User)
    return [list(model.objects.order_by("pk").values()) for model in models]


def is_done(route: Route, tenant: Tenant) -> bool:
    """Return whether what can be done only once was done by someone before."""
    if route.name == "webhook_delete":
        return not Webhook.objects.filter(cluster__cluster_id=tenant.cluster).exists()
    return route.name == "key_revoke" and ApiKey.objects.get(pk=tenant.key).revoked


@pytest.fixture(scope="module")
def shops(module_data: Callable[[], AbstractContextManager[None]]) -> Tenants:
    """The tenants, each with a webhook and a delivery that has failed."""
    with module_data():
        shops = make_tenants()
        for tenant in (shops.shop, shops.other):
            cluster = Cluster.objects.get(cluster_id=tenant.cluster)
            webhook = services.create_webhook(cluster, "https://example.com/", kinds=["client_event"]).webhook
            services.send_test_event(webhook)
            webhook.deliveries.update(state="failed")
        return shops


def request(client: Client, method: str, path: str) -> int:
    return int(getattr(client, method)(path).status_code)


def test_every_url_has_an_entry() -> None:
    assert {route.name for route in ROUTES} == set(TABLE) | PERSONAL | IN_OTHER_MODULES


def test_every_page_of_an_account_belongs_to_the_account_in_its_url() -> None:
    assert all(route.arguments[:1] == ("account",) for route in PATHS)


@pytest.mark.parametrize("name", sorted(PERSONAL))
def test_visitors_log_in_before_they_see_a_personal_page(as_: As, name: str) -> None:
    assert request(as_(None), "get", reverse(f"console:{name}")) == 302
    assert as_(None).get(reverse(f"console:{name}")).headers["location"].startswith(("/accounts/login/", "/console/"))
    assert request(as_("stranger"), "get", reverse(f"console:{name}")) in (200, 302)


@pytest.mark.parametrize(("route", "method", "rule"), CASES)
@pytest.mark.parametrize("suspended", [False, True])
def test_every_role_gets_its_status(
    shops: Tenants, as_: As, route: Route, method: str, rule: Rule | None, suspended: bool
) -> None:
    if suspended:
        services.suspend_account(Account.objects.get(pk=shops.shop.account))
    clients = {role: as_(role) for role in PEOPLE}
    path = route.path(shops.shop.account, shops.shop)
    for role, client in clients.items():
        before = state()
        status = request(client, method, path)
        if rule is None:
            assert status == 405 or (role is None and status == 302), role
        elif role is None:
            assert status == 302
        elif role == "stranger":
            assert status == 404
        elif role in rule.roles and (rule.in_suspended or not suspended):
            assert status in (200, 302) or is_done(route, shops.shop), role
            continue
        else:
            assert status == 403, role
        assert state() == before, role


@pytest.mark.parametrize(("route", "method", "rule"), CASES)
def test_nobody_gets_anything_of_another_account(
    shops: Tenants, as_: As, route: Route, method: str, rule: Rule | None
) -> None:
    expected = 404 if rule else 405
    clients = {role: as_(role) for role in MEMBERS}
    before = state()
    for role, client in clients.items():
        assert request(client, method, route.path(shops.other.account, shops.other)) == expected, role
        if route.is_about_an_object and rule and role in rule.roles:
            # The account is their own, but what the page is about is not.
            assert request(client, method, route.path(shops.shop.account, shops.other)) == 404, role
    assert state() == before


@pytest.mark.parametrize("route", PATHS)
def test_numbers_that_no_database_can_hold_are_not_found(shops: Tenants, as_: As, route: Route) -> None:
    method = "get" if TABLE[route.name].get else "post"
    huge = Tenant(10**30, "x" * 63, 10**30, "", "")
    assert request(as_("owner"), method, route.path(huge.account, shops.shop)) == 404
    if route.is_about_an_object:
        assert request(as_("owner"), method, route.path(shops.shop.account, huge)) == 404


@pytest.mark.parametrize("route", [route for route in PATHS if TABLE[route.name].post])
def test_changes_need_a_csrf_token(shops: Tenants, route: Route) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(pk=shops.people["owner"]))
    before = state()
    assert request(client, "post", route.path(shops.shop.account, shops.shop)) == 403
    assert state() == before


def test_pages_are_not_stored_by_browsers(shops: Tenants, as_: As) -> None:
    for route in PATHS:
        assert as_("owner").get(route.path(shops.shop.account, shops.shop)).headers["cache-control"] == "no-store"


def test_a_session_that_ended_sees_nothing(shops: Tenants, as_: As) -> None:
    client = as_("owner")
    Session.objects.all().delete()
    assert request(client, "get", f"/console/{shops.shop.account}/keys/{shops.shop.key}/") == 302
