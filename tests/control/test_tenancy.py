"""Every endpoint of the REST API, called by every role for its own and for another tenant's objects.

The table has a row for each method of each route. A test compares it with the URL resolver, so a new endpoint without
a row fails.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.response import Response
from rest_framework.test import APIClient

from accounts import services
from accounts.models import (
    Account,
    ApiKey,
    ApiToken,
    AuditEntry,
    Cluster,
    DeliveryState,
    Invitation,
    Membership,
    Role,
    Webhook,
    WebhookDelivery,
)
from accounts.users import User

pytestmark = pytest.mark.django_db

METHODS = ("get", "post", "put", "patch", "delete")
ROLES = ("anonymous", "stranger", "viewer", "developer", "owner", "operator")
"""Roles in an account. A stranger owns another account; an operator is a superuser, who belongs to no account."""


class Endpoint(NamedTuple):
    """A method of a route, and the status of its answer for each role."""

    method: str
    route: str
    path: str
    body: dict[str, Any] | None
    statuses: tuple[int, int, int, int, int, int]
    """In the order of ROLES."""

    @property
    def id(self) -> str:
        return f"{self.method} {self.path}"


CREDENTIALS = {"email": "owner@example.com", "password": "owner-password"}
# Endpoints outside an account answer every logged-in user alike.
EVERYONE, LOGGED_IN = (200, 200, 200, 200, 200, 200), (401, 200, 200, 200, 200, 200)
READS = (401, 404, 200, 200, 200, 200)
OWNER_READS = (401, 404, 403, 403, 200, 200)
OWNER_CHANGES, OWNER_CREATES, OWNER_DELETES = (
    (401, 404, 403, 403, 200, 200),
    (401, 404, 403, 403, 201, 201),
    (401, 404, 403, 403, 204, 204),
)
OPERATOR_CHANGES = (401, 404, 403, 403, 403, 200)
DEVELOPER_CHANGES, DEVELOPER_DELETES = (401, 404, 403, 200, 200, 200), (401, 404, 403, 204, 204, 204)
DEVELOPER_SENDS = (401, 404, 403, 202, 202, 202)
# A body that references an object which the user cannot see is invalid.
DEVELOPER_CREATES_WITHIN = (401, 400, 403, 201, 201, 201)

TABLE = [
    Endpoint("get", "schema", "schema/", None, EVERYONE),
    Endpoint("get", "docs", "docs/", None, EVERYONE),
    Endpoint("post", "token", "token/", CREDENTIALS, EVERYONE),
    Endpoint("delete", "token", "token/", None, (401, 204, 204, 204, 204, 204)),
    Endpoint(
        "post", "password", "password/", {"current_password": "x", "new_password": "y"}, (401, 400, 400, 400, 400, 400)
    ),
    Endpoint("get", "apitoken-list", "tokens/", None, LOGGED_IN),
    Endpoint("delete", "apitoken-detail", "tokens/{token}/", None, (401, 404, 404, 404, 204, 404)),
    Endpoint("get", "usersession-list", "sessions/", None, LOGGED_IN),
    Endpoint("delete", "usersession-detail", "sessions/{session}/", None, (401, 404, 404, 404, 204, 404)),
    Endpoint("get", "account-list", "accounts/", None, LOGGED_IN),
    Endpoint("post", "account-list", "accounts/", {"name": "new"}, (401, 201, 201, 201, 201, 201)),
    Endpoint(
        "post", "account-list", "accounts/", {"name": "new", "max_connections": 1}, (401, 403, 403, 403, 403, 201)
    ),
    Endpoint("post", "account-list", "accounts/", {"name": "new", "owner": None}, (401, 403, 403, 403, 403, 201)),
    Endpoint("post", "account-suspend", "accounts/{account}/suspend/", None, OPERATOR_CHANGES),
    Endpoint("post", "account-resume", "accounts/{account}/resume/", None, OPERATOR_CHANGES),
    Endpoint("get", "whole-audit-list", "audit/", None, (401, 403, 403, 403, 403, 200)),
    Endpoint("get", "account-detail", "accounts/{account}/", None, READS),
    Endpoint("patch", "account-detail", "accounts/{account}/", {"name": "new"}, OWNER_CHANGES),
    Endpoint("patch", "account-detail", "accounts/{account}/", {"max_connections": 1}, OPERATOR_CHANGES),
    Endpoint("delete", "account-detail", "accounts/{account}/", None, OWNER_DELETES),
    Endpoint("get", "account-usage", "accounts/{account}/usage/", None, READS),
    Endpoint("get", "account-usage", "accounts/{account}/usage/?unit=hour&key={key}", None, READS),
    Endpoint("get", "membership-list", "accounts/{account}/members/", None, READS),
    Endpoint("get", "membership-detail", "accounts/{account}/members/{member}/", None, READS),
    Endpoint("patch", "membership-detail", "accounts/{account}/members/{member}/", {"role": "owner"}, OWNER_CHANGES),
    Endpoint("delete", "membership-detail", "accounts/{account}/members/{member}/", None, OWNER_DELETES),
    Endpoint("get", "invitation-list", "accounts/{account}/invitations/", None, OWNER_READS),
    Endpoint("post", "invitation-list", "accounts/{account}/invitations/", {"email": "x@example.com"}, OWNER_CREATES),
    Endpoint("delete", "invitation-detail", "accounts/{account}/invitations/{invitation}/", None, OWNER_DELETES),
    Endpoint("get", "auditentry-list", "accounts/{account}/audit/", None, READS),
    Endpoint("get", "refusal-list", "accounts/{account}/refusals/", None, READS),
    Endpoint("get", "refusal-reasons", "accounts/{account}/refusals/reasons/", None, READS),
    Endpoint("get", "cluster-list", "clusters/", None, LOGGED_IN),
    Endpoint("get", "cluster-list", "clusters/?account={account}", None, LOGGED_IN),
    Endpoint(
        "post", "cluster-list", "clusters/", {"account": "{account}", "cluster_id": "fresh"}, DEVELOPER_CREATES_WITHIN
    ),
    Endpoint("get", "cluster-detail", "clusters/{cluster}/", None, READS),
    Endpoint("patch", "cluster-detail", "clusters/{cluster}/", {"enabled": False}, DEVELOPER_CHANGES),
    Endpoint("delete", "cluster-detail", "clusters/{cluster}/", None, OWNER_DELETES),
    Endpoint("get", "apikey-list", "keys/", None, LOGGED_IN),
    Endpoint("get", "apikey-list", "keys/?cluster={cluster_id}", None, LOGGED_IN),
    Endpoint("post", "apikey-list", "keys/", {"cluster": "{cluster_id}", "label": "new"}, DEVELOPER_CREATES_WITHIN),
    Endpoint("get", "apikey-detail", "keys/{key}/", None, READS),
    Endpoint("patch", "apikey-detail", "keys/{key}/", {"label": "new"}, DEVELOPER_CHANGES),
    Endpoint("delete", "apikey-detail", "keys/{key}/", None, DEVELOPER_DELETES),
    Endpoint("post", "apikey-rotate-secret", "keys/{key}/rotate-secret/", None, DEVELOPER_CHANGES),
    Endpoint("post", "apikey-end-old-secret", "keys/{key}/end-old-secret/", None, DEVELOPER_CHANGES),
    Endpoint("get", "webhook-list", "webhooks/", None, LOGGED_IN),
    Endpoint("get", "webhook-list", "webhooks/?cluster={cluster_id}", None, LOGGED_IN),
    Endpoint(
        "post",
        "webhook-list",
        "webhooks/",
        {"cluster": "{cluster_id}", "url": "https://new.example.com/", "kinds": ["client_event"]},
        DEVELOPER_CREATES_WITHIN,
    ),
    Endpoint("get", "webhook-detail", "webhooks/{webhook}/", None, READS),
    Endpoint("patch", "webhook-detail", "webhooks/{webhook}/", {"enabled": False}, DEVELOPER_CHANGES),
    Endpoint("delete", "webhook-detail", "webhooks/{webhook}/", None, DEVELOPER_DELETES),
    Endpoint("post", "webhook-rotate-secret", "webhooks/{webhook}/rotate-secret/", None, DEVELOPER_CHANGES),
    Endpoint("post", "webhook-end-old-secret", "webhooks/{webhook}/end-old-secret/", None, DEVELOPER_CHANGES),
    Endpoint("post", "webhook-send-test-event", "webhooks/{webhook}/test/", None, DEVELOPER_SENDS),
    Endpoint("post", "webhook-redeliver", "webhooks/{webhook}/redeliver/", None, DEVELOPER_SENDS),
    Endpoint("get", "webhookdelivery-list", "webhooks/{webhook}/deliveries/", None, READS),
    Endpoint("get", "webhookdelivery-list", "webhooks/{webhook}/deliveries/?state=failed", None, READS),
    Endpoint("get", "webhookdelivery-detail", "webhooks/{webhook}/deliveries/{delivery}/", None, READS),
    Endpoint(
        "post",
        "webhookdelivery-redeliver",
        "webhooks/{webhook}/deliveries/{delivery}/redeliver/",
        None,
        DEVELOPER_SENDS,
    ),
    # Invitations are only for the person who is invited, who is none of these.
    Endpoint("get", "own-invitation-list", "invitations/", None, LOGGED_IN),
    Endpoint("post", "own-invitation-accept", "invitations/{invitation}/accept/", None, (401, 404, 404, 404, 404, 404)),
    Endpoint(
        "post", "own-invitation-decline", "invitations/{invitation}/decline/", None, (401, 404, 404, 404, 404, 404)
    ),
]

# A tenant, a user, and the user's role there. The names of a tenant's objects contain the name of the tenant.
CASES = [
    *(("zebra", role, role) for role in ROLES),
    *(
        ("walrus", role, other_role)
        for role, other_role in zip(
            ROLES, ("anonymous", "owner", "stranger", "stranger", "stranger", "operator"), strict=True
        )
    ),
]
BELONGS_TO = {"stranger": "walrus", "viewer": "zebra", "developer": "zebra", "owner": "zebra"}


class Tenant(NamedTuple):
    """One object of each kind, under the name of its placeholder in paths and bodies."""

    account: int
    member: int
    invitation: int
    cluster: int
    cluster_id: str
    key: str
    token: str
    """A token of the owner."""
    session: int
    """A session of the owner."""
    webhook: int
    delivery: str
    """A delivery to the webhook that has failed."""


def make_tenant(name: str, owner: User, member: User) -> Tenant:
    account = services.create_account(name, owner)
    membership = services.add_member(account, member)
    cluster = services.create_cluster(account, name)
    key = services.issue_key(cluster, name).key
    services.rotate_secret(key, timedelta(days=1))
    url = f"https://{name}.example.com/"
    webhook = services.create_webhook(cluster, url, kinds=["channel_occupied"], headers={f"X-{name}": name}).webhook
    services.rotate_webhook_secret(webhook, timedelta(days=1))
    delivery = services.send_test_event(webhook)
    WebhookDelivery.objects.update(state=DeliveryState.FAILED)
    invitation = services.invite(account, f"{name}-invited@example.com")
    token, _ = ApiToken.objects.create(owner)
    Client().force_login(owner)
    session = UserSession.objects.get(user=owner)
    return Tenant(
        account.pk,
        membership.pk,
        invitation.pk,
        cluster.pk,
        name,
        key.public_key,
        token.token_key,
        session.pk,
        webhook.pk,
        delivery.message_id,
    )


@pytest.fixture(scope="module")
def people(module_data: Callable[[], AbstractContextManager[None]]) -> dict[str, User]:
    names = ["stranger", "viewer", "developer", "owner", "zebra-teammate", "walrus-teammate"]
    with module_data():
        people = {name: User.objects.create_user(f"{name}@example.com", password=f"{name}-password") for name in names}
        return {**people, "operator": User.objects.create_superuser("operator@example.com")}


@pytest.fixture(scope="module")
def tenants(people: dict[str, User], module_data: Callable[[], AbstractContextManager[None]]) -> dict[str, Tenant]:
    with module_data():
        tenants = {
            "zebra": make_tenant("zebra", people["owner"], people["zebra-teammate"]),
            "walrus": make_tenant("walrus", people["stranger"], people["walrus-teammate"]),
        }
        for role in (Role.VIEWER, Role.DEVELOPER):
            services.add_member(Account.objects.get(name="zebra"), people[role], role)
        return tenants


def fill_in(value: Any, tenant: Tenant) -> Any:
    if isinstance(value, dict):
        return {name: fill_in(part, tenant) for name, part in value.items()}
    return value.format(**tenant._asdict()) if isinstance(value, str) else value


def call(endpoint: Endpoint, tenant: Tenant, user: User | None) -> Response:
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Token {ApiToken.objects.create(user)[1]}")
    path = f"/api/v1/{fill_in(endpoint.path, tenant)}"
    return getattr(client, endpoint.method)(path, fill_in(endpoint.body, tenant))  # type: ignore[no-any-return]


def state() -> list[Any]:
    """Return everything that the API could change, except tokens."""
    models = (
        *(Account, Membership, Invitation, Cluster, ApiKey, Webhook, WebhookDelivery),
        *(AuditEntry, User, UserSession, Session),
    )
    return [list(model.objects.values()) for model in models]


@pytest.mark.parametrize(
    ("tenant", "person", "role"), CASES, ids=[f"{person} on {tenant}" for tenant, person, _ in CASES]
)
@pytest.mark.parametrize("endpoint", TABLE, ids=[endpoint.id for endpoint in TABLE])
def test_every_role_gets_its_status_and_nothing_of_other_tenants(
    endpoint: Endpoint, tenants: dict[str, Tenant], people: dict[str, User], tenant: str, person: str, role: str
) -> None:
    before = state()
    answer = call(endpoint, tenants[tenant], people.get(person))
    assert answer.status_code == endpoint.statuses[ROLES.index(role)], answer.content
    # Resuming an account that is not suspended does nothing.
    unchanged = "token" in endpoint.route or endpoint.route == "account-resume"
    changes = answer.status_code < 400 and endpoint.method != "get" and not unchanged
    assert (state() != before) == changes
    sent = str(fill_in(endpoint.body, tenants[tenant]))
    for name in tenants if person != "operator" else ():
        if name != BELONGS_TO.get(person) and name not in sent:
            assert name not in answer.content.decode()


def routes(patterns: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield the method and the name of every route."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns)
        else:
            assert isinstance(pattern, URLPattern)
            view = pattern.callback
            # The actions of a viewset, or the methods of a view.
            methods = getattr(view, "actions", None) or [name for name in METHODS if hasattr(view.view_class, name)]
            yield from ((method, str(pattern.name)) for method in methods if method != "head")


def test_the_table_has_a_row_for_each_method_of_each_route() -> None:
    existing = set(routes(get_resolver("accounts.api.urls").url_patterns))
    assert len(existing) > 20
    assert existing == {(endpoint.method, endpoint.route) for endpoint in TABLE}


@pytest.mark.parametrize("path", sorted({endpoint.path for endpoint in TABLE}))
def test_other_methods_get_405_and_change_nothing(
    tenants: dict[str, Tenant], people: dict[str, User], path: str
) -> None:
    known = {endpoint.method for endpoint in TABLE if endpoint.path.partition("?")[0] == path.partition("?")[0]}
    before = state()
    for method in set(METHODS) - known:
        endpoint = Endpoint(method, "", path, {}, EVERYONE)
        assert call(endpoint, tenants["zebra"], people["owner"]).status_code == 405
    assert state() == before


@pytest.mark.parametrize(
    "endpoint", [endpoint for endpoint in TABLE if "{member}" in endpoint.path], ids=lambda e: e.id
)
def test_a_member_of_one_account_is_not_found_under_another_of_the_same_owner(
    endpoint: Endpoint, tenants: dict[str, Tenant], people: dict[str, User]
) -> None:
    services.add_member(Account.objects.get(name="walrus"), people["owner"], Role.OWNER)
    mixed = tenants["zebra"]._replace(member=tenants["walrus"].member)
    before = state()
    assert call(endpoint, mixed, people["owner"]).status_code == 404
    assert state() == before


@pytest.mark.parametrize(
    "endpoint", [endpoint for endpoint in TABLE if "{delivery}" in endpoint.path], ids=lambda e: e.id
)
def test_a_delivery_to_another_webhook_is_not_found(
    endpoint: Endpoint, tenants: dict[str, Tenant], people: dict[str, User]
) -> None:
    mixed = tenants["zebra"]._replace(delivery=tenants["walrus"].delivery)
    before = state()
    assert call(endpoint, mixed, people["owner"]).status_code == 404
    assert state() == before


def test_former_members_see_nothing_of_the_account(tenants: dict[str, Tenant], people: dict[str, User]) -> None:
    services.remove_member(Membership.objects.get(user=people["viewer"]))
    for endpoint in TABLE:
        if "{" in endpoint.path and "?" not in endpoint.path:
            assert call(endpoint, tenants["zebra"], people["viewer"]).status_code == 404


@pytest.mark.parametrize("role", [Role.VIEWER, Role.DEVELOPER])
def test_members_can_leave_but_not_remove_others(
    tenants: dict[str, Tenant], people: dict[str, User], role: Role
) -> None:
    own = Membership.objects.get(user=people[role])
    endpoint = Endpoint("delete", "", "accounts/{account}/members/{member}/", None, EVERYONE)
    assert call(endpoint, tenants["zebra"], people[role]).status_code == 403
    assert call(endpoint, tenants["zebra"]._replace(member=own.pk), people[role]).status_code == 204
    assert not Membership.objects.filter(pk=own.pk).exists()
    assert call(endpoint, tenants["zebra"], people[role]).status_code == 404
